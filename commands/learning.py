"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI over the house's parts."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from callbacks.checkpoint import run_checkpoints
from callbacks.class_weights import ClassWeights
from callbacks.ledger import LedgerCallback
from callbacks.opening import Opening
from callbacks.prediction import PredictionWriter
from callbacks.progress import RunProgressBar, say
from callbacks.robustness import RobustnessCallback
from callbacks.run_state import RunState, run_logger
from callbacks.saliency import SaliencyCallback
from callbacks.save_config import SaveConfig
from callbacks.trained_cases import TrainedCases
from commands.attack_classes import attack_classes
from commands.checkpoints import CheckpointInfo, read_checkpoint, settings_file
from commands.config_files import check_config_files
from commands.loss_label import loss_label
from commands.messages import parser_message
from commands.quiet import quiet_libraries
from commands.short_help import ShortHelp
from datamodules.datamodule import DecathlonDataModule
from datamodules.splits import OVERLAP
from errors import InputError
from lightning_module.module import SegmentationModule
from tracking.store import project_dir, runs_dir
from tracking.trials import tags_given

DEFAULT_CONFIG = project_dir() / "conf" / "default.yaml"
_LARGEST_SEED = 2**32 - 1  # what NumPy takes
_SUBCOMMANDS = ("fit", "validate", "test", "predict")


def main(arguments: Sequence[str]) -> int:
    """Run one of Lightning's commands.

    Args:
        arguments: The command and its options.

    Returns:
        Exit status 0.

    Raises:
        InputError: If options, files or data are not as expected.
    """
    return run_cli(arguments, SegStressCLI)


def run_cli(arguments: Sequence[str], cli: "type[SegStressCLI]") -> int:
    """Run one of Lightning's commands by a CLI of this module.

    Args:
        arguments: The command and its options.
        cli: The CLI.

    Returns:
        Exit status 0.

    Raises:
        InputError: If options, files or data are not as expected.
    """
    quiet_libraries()
    attack_classes()  # once imported, they are listed by --help
    cli(
        SegmentationModule,
        DecathlonDataModule,
        args=list(arguments),
        save_config_callback=SaveConfig,
        save_config_kwargs={"save_to_log_dir": False},
        auto_configure_optimizers=False,
        parser_class=OneLineParser,
        parser_kwargs={
            "allow_abbrev": False,
            "formatter_class": ShortHelp,
            **{
                name: {"default_config_files": [str(DEFAULT_CONFIG)], "formatter_class": ShortHelp}
                for name in _SUBCOMMANDS
            },
        },
    )
    return 0


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line, not a usage text and a dozen lines."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong as an InputError."""
        if not self.exit_on_error:
            # A parser within: the one around it adds which option it was.
            super().error(message, ex)
        options = list(self._option_string_actions)
        attacks = [f"{kind.__module__}.{kind.__name__}" for kind in attack_classes()]
        raise InputError(parser_message(message, options, attacks)) from ex

    def _check_value_key(
        self,
        action: argparse.Action,
        value: object,
        key: str,
        cfg: Namespace | None,
        append: bool = False,
    ) -> object:
        """A list in a YAML is a whole one: its entries take nothing from an earlier list.

        jsonargparse fills up what an entry leaves out from the entry at the same place of the list
        before, where both are as long: an attack would get options that nobody has given it.
        """
        if isinstance(value, list) and not append and cfg is not None and cfg.get(key) is not None:
            cfg = cfg.clone()
            cfg[key] = None
        return super()._check_value_key(action, value, key, cfg, append)


class SegStressCLI(LightningCLI):
    """LightningCLI whose checkpoints bring their settings, below those that a user gives."""

    checkpoint: CheckpointInfo | None = None
    needs_checkpoint = True  # of an evaluation

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's methods that are commands, and the arguments which are not options."""
        known = LightningCLI.subcommands()
        # Predictions are written case by case, and never kept.
        known["predict"] = {*known["predict"], "return_predictions"}
        return {name: known[name] for name in _SUBCOMMANDS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the attacks and what follows from the data."""
        parser.add_lightning_class_args(RobustnessCallback, "robustness")
        parser.add_lightning_class_args(SaliencyCallback, "saliency")
        parser.add_lightning_class_args(PredictionWriter, "prediction")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("data.max_pixel", "robustness.max_pixel")
        for name in ("class_names", "in_channels"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.add_argument(
            "--test_after_fit",
            type=bool,
            default=False,
            help="Score and attack the last weights on the test set when fit is done.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """Parse twice where there is a checkpoint: what it was made with are then the defaults."""
        check_config_files(args)
        super().parse_arguments(parser, args)
        command = self.config["subcommand"]
        _check_seed(self.config[command].seed_everything)
        if command == "fit":
            _check_length(self.config.fit.trainer)
        path = self.config[command].get("ckpt_path")
        if path is None:
            if command != "fit" and self.needs_checkpoint:
                msg = (
                    f"--ckpt_path: {command} needs a checkpoint, found none; give "
                    f"{runs_dir()}/checkpoints/<run id>/last.ckpt"
                )
                raise InputError(msg)
            return
        self.checkpoint = read_checkpoint(Path(path))
        with settings_file(self.checkpoint, fit=command == "fit") as file:
            subparser = self._subcommand_parsers[command]
            subparser.default_config_files = [str(DEFAULT_CONFIG), str(file)]
            super().parse_arguments(parser, args)
        if command == "fit":
            self._check_schedule(self.checkpoint)

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let the checkpoint's hyperparameters override options."""

    def instantiate_classes(self) -> None:
        """Build trainer, model and data; settings that they refuse are the user's to mend."""
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as error:
            raise InputError(parser_message(str(error))) from error
        if self.checkpoint is not None:
            self._check_network(self.checkpoint)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401
        """Add the callbacks that every run has, whatever list a user's YAML sets."""
        settings = self.config_init[self.subcommand]
        known = self.checkpoint
        callbacks: list[Callback] = [
            Opening(),
            ClassWeights(),
            TrainedCases(() if known is None else known.trained_on),
            RunState(self._settings()),
            LedgerCallback(),
        ]
        if settings.trainer.enable_checkpointing is not False and self.subcommand == "fit":
            callbacks += run_checkpoints()
        if settings.trainer.enable_progress_bar is not False:
            callbacks.append(RunProgressBar(refresh_rate=10))
        self.trainer_defaults["callbacks"] = callbacks
        trainer = super().instantiate_trainer(**kwargs)
        self._describe_run(trainer)
        return trainer

    def predict(self, **arguments: Any) -> None:  # noqa: ANN401 (those of the trainer)
        """Predict, and keep nothing in memory."""
        self.trainer.predict(**arguments, return_predictions=False)

    def after_fit(self) -> None:
        """Say what can follow, or do it."""
        logger = run_logger(self.trainer)
        folder = getattr(self.trainer.checkpoint_callback, "dirpath", None)
        if self.config.fit.test_after_fit:
            if logger is not None and logger.version is not None:
                logger.adopt(logger.version, evaluate=True)
            self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        elif folder is not None:
            say(self.trainer, f"Next: python main.py test --ckpt_path {folder}/last.ckpt")
        if logger is not None:
            say(self.trainer, f"Then: python main.py compare --experiment {logger.name}")

    def _check_schedule(self, checkpoint: CheckpointInfo) -> None:
        """Refuse a longer training, before anything of the run is touched."""
        begun = checkpoint.settings.get("trainer", {}).get("max_epochs")
        wanted = self.config.fit.trainer.max_epochs
        if isinstance(begun, int) and isinstance(wanted, int) and 0 < begun < wanted:
            msg = (
                f"--ckpt_path: its learning rate follows a cycle of {begun} epochs, found "
                f"--trainer.max_epochs {wanted}; resume with {begun}, or begin a new run"
            )
            raise InputError(msg)

    def _check_network(self, checkpoint: CheckpointInfo) -> None:
        state = self.model.state_dict().items()
        built = {(name, tuple(tensor.shape)) for name, tensor in state if not _of_loss(name)}
        stored = {pair for pair in checkpoint.shapes.items() if not _of_loss(pair[0])}
        if built != stored:
            names = built ^ stored
            msg = (
                f"--ckpt_path: its network is another one than the options give (as in "
                f"{min(name for name, _ in names)}); leave out the options for network and labels"
            )
            raise InputError(msg)

    def _settings(self) -> dict[str, Any]:
        """What the run is made with, as plain values and without what is linked."""
        text = self.parser.dump(self.config, skip_link_targets=True, skip_none=False)
        chosen: dict[str, Any] = yaml.safe_load(text)[str(self.subcommand)]
        # A checkpoint may be read from another folder than the one it was made in.
        for name in ("root", "case_weights", "groups", "cache_dir"):
            if chosen["data"][name] is not None:
                chosen["data"][name] = str(Path(chosen["data"][name]).expanduser().absolute())
        return {
            name: chosen[name]
            for name in ("seed_everything", "model", "data", "robustness", "saliency", "trainer")
        }

    def _loss_of_run(self) -> str:
        """What the network was trained with, as runs are told apart by."""
        chosen = self.config[self.subcommand]
        return loss_label(chosen.model, chosen.data.case_weights)

    def _describe_run(self, trainer: Trainer) -> None:
        logger = run_logger(trainer)
        if logger is None:
            return
        chosen = self.config[self.subcommand]
        network = chosen.model.get("network")
        params = {
            "task": chosen.data.task,
            "loss": self._loss_of_run(),
            "seed": int(chosen.seed_everything),
            "fold": chosen.data.fold,
            "network": "unet" if network is None else network.class_path.rpartition(".")[2],
            "classes": "+".join(self.datamodule.class_names),
            "epochs": trainer.max_epochs,
            "max_pixel": chosen.data.max_pixel,
        }
        if self.datamodule.overlap:
            params["split"] = OVERLAP
        logger.experiment_name = logger.experiment_name or chosen.data.task
        logger.run_name = logger.run_name or f"{params['loss']} seed {params['seed']}"
        logger.describe(params, tags_given())
        if self.checkpoint is not None and self.checkpoint.run_id is not None:
            logger.adopt(self.checkpoint.run_id, evaluate=self.subcommand != "fit")


class AttackCLI(SegStressCLI):
    """Attacks a network that was trained elsewhere: there is no checkpoint of a run."""

    needs_checkpoint = False

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the runs of a network are told apart by."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--trained_with",
            type=str | None,
            default=None,
            help="Loss that the network was trained with, if it is known: the runs of a "
            "comparison are told apart by it. The name of the network if left out.",
        )

    def _loss_of_run(self) -> str:
        chosen = self.config[self.subcommand]
        if chosen.trained_with:
            return str(chosen.trained_with)
        network = chosen.model.network
        path = network.get("init_args", {}).get("path")
        return network.class_path.rpartition(".")[2] if path is None else Path(path).name


def _of_loss(name: str) -> bool:
    """Whether a weight is a loss's and not the network's, which may be looked at under any loss."""
    return name.startswith("loss.")


def _check_seed(seed: object) -> None:
    """A run names its seed: ``true`` would draw one that nobody chose, ``false`` set none."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _LARGEST_SEED:
        msg = (
            f"--seed_everything: found {str(seed).lower()}, expected a whole number from 0 to "
            f"{_LARGEST_SEED}; choose a seed"
        )
        raise InputError(msg)


def _check_length(trainer: Namespace) -> None:
    if trainer.max_epochs == -1 and trainer.max_steps == -1:
        msg = (
            "--trainer.max_epochs: found -1, expected a limit, because the learning rate follows a "
            "cycle over all steps; set the number of epochs, or --trainer.max_steps"
        )
        raise InputError(msg)
