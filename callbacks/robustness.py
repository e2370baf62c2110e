"""What happens at validation end: the network is attacked; counts, curves, pictures go on."""

import math

from lightning.pytorch import LightningModule, Trainer

from callbacks.after_evaluation import AfterEvaluation, Splits, check_numbers
from callbacks.attack_passes import AttackPasses, say_repeats
from callbacks.evaluating import (
    class_names,
    data_fingerprints,
    gather,
    mendable,
    objectives_of,
    split_batches,
    weights_sha256,
)
from callbacks.fastest import at_its_fastest
from callbacks.progress import say
from callbacks.record import Evaluation, record_card, record_curves, record_evaluation
from callbacks.report_card import Card, make_card, verdict_line
from callbacks.run_state import run_logger
from errors import InputError
from robustness.attack import Attack, attacks_fingerprint, settings_text
from robustness.calibration import calibration_frame
from robustness.card_attacks import card_attacks
from robustness.counts import counts_frame
from robustness.directed import DirectedAttack, EpsilonAttack
from robustness.distances import distances_frame
from robustness.network_state import untouched
from robustness.plan import Plan, make_plan
from robustness.repeats import enough_repeats, repeats_text
from robustness.scores import valid_pixels_q20
from robustness.snapshots import Snapshot, take_snapshots
from robustness.sparse import SparseAttack


class RobustnessCallback(AfterEvaluation):
    """Attacks the network at validation end and hands the counts, curves and pictures to the run.

    Args:
        attacks: The attacks; each has a unique name. Files under conf/robustness set them,
            docs/attacks.md lists all there are.
        splits: Where the network is attacked: ``val`` (fit and validate), ``test``, both or none.
        every_n_epochs: How often the network is attacked during fit; 0 is after the last epoch
            only.
        seed: Seed of the attacks' random pixels and values, apart from that of the training.
        batch_size: Slices in each forward pass: 16 or more, so that logits do not depend on it; 0
            takes the fastest size and layout, measured once for a machine and a network.
        compile: Whether disturbed slices may be counted on the compiled network (on GPUs, as CUDA
            graphs), where that is faster; it takes some seconds, and on CPUs a C++ compiler. The
            attacks themselves see the network as it is.
        pictures: Of how many cases pictures are drawn, the first by name; 0 draws none.
        picture_attack: Name of the attack whose points figure 4 shows.
        card_cases: Of how many cases a report card is made after the last epoch, the first by name;
            0 makes none. With 20 steps it takes 616 forward and 283 backward passes of each slice.
        card_steps: Steps of the iterated attack of the report card; it is made with twice as many
            too.
        max_pixel: Brightest intensity of the scaled images: the attacks of the report card stay
            between 0 and it. The command line takes it from the data.
    """

    def __init__(
        self,
        attacks: list[Attack],
        splits: Splits = ("val", "test"),
        every_n_epochs: int = 0,
        seed: int = 0,
        batch_size: int = 0,
        compile: bool = False,  # noqa: A002 - the name of the option
        pictures: int = 4,
        picture_attack: str = "top5_beyond_range",
        card_cases: int = 0,
        card_steps: int = 20,
        max_pixel: float = 0.2,
    ) -> None:
        super().__init__(splits, every_n_epochs)
        check_numbers(
            "robustness",
            ("every_n_epochs", every_n_epochs, 0),
            ("batch_size", batch_size, 16 if batch_size else 0),
            ("pictures", pictures, 0),
            ("card_cases", card_cases, 0),
            ("card_steps", card_steps, 1),
        )
        self.attacks = attacks
        self.seed = seed
        self.batch_size = batch_size
        self.compile = compile
        self.pictures = pictures
        self.card_cases = card_cases
        if not 0 < max_pixel < math.inf:
            msg = (
                f"--data.max_pixel: found {max_pixel}, expected a finite number above 0; "
                "set for example 0.2"
            )
            raise InputError(msg)
        self.max_pixel = max_pixel
        _plan(attacks)  # refuses what cannot be attacked together
        self.card_plan = _plan(card_attacks(0.0, max_pixel, card_steps))
        self.shown = _shown(attacks, picture_attack) if pictures else None
        self._last: Evaluation | None = None
        self._curves_logged = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse attacks that this network cannot be attacked by, before anything is trained.

        Raises:
            InputError: If an attack raises an objective that there is not.
        """
        known = objectives_of(pl_module)
        for attack in self.attacks:
            with mendable():
                for name in sorted(attack.objective_names):
                    attack.check_option("objective", name, known)
        for attack in self.attacks:
            high = getattr(attack, "high", None)
            if isinstance(attack, DirectedAttack | SparseAttack) and high != self.max_pixel:
                say(
                    trainer,
                    f"Note: attack {attack.name} may go up to {high:g}; images are scaled to "
                    f"{self.max_pixel:g}. Set its high where that is not meant.",
                )

    def _epsilon_shares(self) -> dict[str, list[float]]:
        return {
            attack.name: [attack.epsilon_share(point) for point in attack.points]
            for attack in self.attacks
            if isinstance(attack, EpsilonAttack)
        }

    def became_last(self, trainer: Trainer) -> None:
        """Log the curves, once a run."""
        if not self._curves_logged and self._last is not None:
            record_curves(run_logger(trainer), self._last)

    def measure(self, trainer: Trainer, module: LightningModule, split: str, *, last: bool) -> None:
        """Attack the network; see :class:`AfterEvaluation`."""
        device = module.device
        snapshots: list[Snapshot] = []
        card: Card | None = None
        objectives = objectives_of(module)
        fastest = at_its_fastest(
            trainer,
            module,
            lambda: next(split_batches(trainer, split))["image"],
            batch_size=self.batch_size,
            may_compile=self.compile,
        )
        with untouched(module), mendable(), fastest as network:
            passes = AttackPasses(
                trainer,
                network,
                split,
                device=device,
                seed=self.seed,
                objectives=objectives,
                pictures=self.pictures,
            )
            found, repeated = enough_repeats(self.attacks, passes)
            say_repeats(trainer, repeated)
            chooser = passes.chooser
            for samples in gather(chooser.samples()):
                chooser.merge(samples)
            if self.shown is not None and trainer.is_global_zero:
                snapshots = take_snapshots(
                    network.forward,
                    chooser.samples(),
                    self.shown,
                    device=device,
                    seed=self.seed,
                    batch_size=network.batch_size,
                    objectives=objectives,
                )
            if last and self.card_cases:
                all_cases = sorted({case for part in found.counts for case in part.cases})
                cases = all_cases[: self.card_cases]
                card = make_card(
                    trainer,
                    module,
                    split,
                    cases,
                    self.card_plan,
                    slices=found.counts[trainer.global_rank].slices_of(cases),
                    seed=self.seed,
                    batch_size=network.batch_size,
                )
                say(trainer, verdict_line(card.verdicts))
        logger = run_logger(trainer)
        if not trainer.is_global_zero:
            return
        if logger is None:
            say(trainer, "No run to write to: the counts of these attacks are not kept.")
            return
        names = class_names(module, max(part.sums.shape[2] for part in found.counts))
        frame = counts_frame(found.counts, found.rows, names)
        calibration = calibration_frame(found.bins, found.rows, names)
        metadata = {
            "checkpoint_sha256": weights_sha256(module),
            "attacks": attacks_fingerprint(self.attacks, self.seed),
            "attack_settings": settings_text(self.attacks),
            "split_name": split,
            "valid_pixels_q20": valid_pixels_q20(calibration, frame),
            "repeats": repeats_text(repeated),
            **data_fingerprints(trainer, split),
        }
        self._last = Evaluation(
            split,
            self.epoch_of(trainer, module),
            frame,
            metadata,
            snapshots,
            distances_frame(passes.distances),
            calibration,
            self._epsilon_shares(),
        )
        self._curves_logged = last
        record_evaluation(logger, self._last)
        if last:
            record_curves(logger, self._last)
        if card is not None:
            record_card(logger, split, card, metadata)


def _plan(attacks: list[Attack]) -> Plan:
    try:
        return make_plan(attacks)
    except ValueError as error:
        msg = f"--robustness.attacks: {error}; rename one"
        raise InputError(msg) from error


def _shown(attacks: list[Attack], name: str) -> Attack | None:
    """The attack of figure 4; None where no attacks are made at all."""
    by_name = {attack.name: attack for attack in attacks}
    if attacks and name not in by_name:
        msg = (
            f"--robustness.picture_attack: {name} is none of the attacks, expected one of "
            f"{', '.join(by_name)}; choose one or set --robustness.pictures 0"
        )
        raise InputError(msg)
    return by_name.get(name)
