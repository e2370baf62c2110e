import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from torch import Tensor, nn

from errors import InputError
from lightning_module.module import SegmentationModule
from tests.lightning_module.toy import (
    SIZE,
    DiscData,
    Discs,
    RememberingLogger,
    SaveEachEpoch,
    make_trainer,
    small_module,
)


class OneLayer(nn.Module):
    """A network of the user's own."""

    def __init__(self, in_channels: int, num_classes: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.layer = nn.Conv2d(in_channels, num_classes, kernel_size, padding="same")

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layer(image)
        return logits


class LinkedCLI(LightningCLI):
    """Takes the names of classes from the data."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")


@pytest.fixture
def logger() -> RememberingLogger:
    return RememberingLogger()


def test_scores_and_losses_of_an_epoch_agree_with_one_pass_over_everything(
    tmp_path: Path, logger: RememberingLogger
) -> None:
    module, data = small_module("bce+dice", class_names=["a", "b"]), DiscData(classes=2)
    make_trainer(tmp_path, logger, max_epochs=1).fit(module, data)
    batch = data.eval_set.batch()

    module.eval()
    with torch.no_grad():
        logits = module(batch["image"])
        total = module.loss.main(logits, batch["mask"], torch.ones_like(batch["valid"])).total
    found, true = (logits > 0).numpy(), batch["mask"].numpy() > 0
    cases = np.array(batch["case"])
    means = []
    for index in range(2):
        scores = []
        for case in np.unique(cases):
            one, other = found[cases == case, index], true[cases == case, index]
            if one.any() or other.any():
                scores.append(2 * np.sum(one & other) / (np.sum(one) + np.sum(other)))
        means.append(np.mean(scores))

    assert logger.last("val/loss") == pytest.approx(total.item(), rel=1e-5)
    assert logger.last("val/dice") == pytest.approx(np.mean(means), rel=1e-9)
    assert logger.last("val/volumes") == 4


def test_evaluations_of_a_checkpoint_are_logged_at_its_epoch(tmp_path: Path) -> None:
    trained, tested = RememberingLogger(), RememberingLogger()
    trainer = make_trainer(tmp_path, trained, callbacks=[SaveEachEpoch(tmp_path)])
    trainer.fit(small_module(), DiscData())
    module = small_module()
    trainer = make_trainer(tmp_path, tested)

    trainer.validate(module, DiscData(), ckpt_path=tmp_path / "last.ckpt")
    shown = {key: value.item() for key, value in trainer.callback_metrics.items()}
    trainer.test(module, DiscData(), ckpt_path=tmp_path / "last.ckpt")

    (val_step, val), (test_step, test) = tested.records
    assert (val_step, test_step) == (2, 2)
    assert val == trained.records[-2][1]
    assert test == {key.replace("val/", "test/"): value for key, value in val.items()}
    assert shown == pytest.approx(val)


def test_evaluations_after_a_fit_are_logged_at_its_last_epoch(
    tmp_path: Path, logger: RememberingLogger
) -> None:
    module = small_module()
    trainer = make_trainer(tmp_path, logger)
    trainer.fit(module, DiscData())

    trainer.test(module, DiscData())

    assert logger.records[-1][0] == 2


def test_validation_before_and_after_a_fit_agrees_with_the_fits_own(
    tmp_path: Path, logger: RememberingLogger
) -> None:
    module, trainer = small_module(), make_trainer(tmp_path, logger)

    trainer.validate(module, DiscData())
    trainer.fit(module, DiscData())
    trainer.validate(module, DiscData())

    val = [record for record in logger.records if "val/dice" in record[1]]
    assert [step for step, _ in val] == [0, 0, 1, 2, 2]
    assert val[-1] == val[-2] != val[0]


@pytest.mark.parametrize("count_padding", [True, False])
def test_padding_counts_where_it_should(
    tmp_path: Path, logger: RememberingLogger, count_padding: bool
) -> None:
    data = DiscData()
    module = small_module("bce", count_padding=count_padding)
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter.zero_()
        module.network.head.bias.fill_(2.0)

    make_trainer(tmp_path, logger).validate(module, data)

    batch = data.eval_set.batch()
    counted = batch["mask"] if count_padding else batch["mask"][..., :-3]
    softplus = np.log1p(np.exp(2.0))
    assert logger.last("val/loss") == pytest.approx(softplus - 2 * counted.mean().item(), rel=1e-5)
    volumes = np.split(counted.numpy(), [4, 8, 12])
    dice = [2 * volume.sum() / (volume.sum() + volume.size) for volume in volumes]
    assert logger.last("val/dice") == pytest.approx(np.mean(dice), rel=1e-6)


def test_logits_of_a_slice_are_the_same_bits_in_every_batch() -> None:
    module = SegmentationModule().eval()
    image = torch.rand(20, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    def logits_of_first(slices: int, threads: int) -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with torch.inference_mode():
            logits = module.evaluation_logits(image[:slices])
        torch.set_num_threads(before)
        return logits

    expected = logits_of_first(20, threads=2)
    for threads in (1, 2):
        for slices in (1, 15, 16, 20):
            found = logits_of_first(slices, threads)
            assert torch.equal(found, expected[:slices]), (slices, threads)


def test_weights_and_features_lie_channels_last() -> None:
    module = SegmentationModule()
    contiguous: dict[str, bool] = {}

    def note(layer: nn.Module, _: object, features: Tensor) -> None:
        contiguous[names[layer]] = features.is_contiguous(memory_format=torch.channels_last)

    names = {layer: name for name, layer in module.network.named_modules()}
    for layer in names:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d | nn.ReLU):
            layer.register_forward_hook(note)
    module(torch.rand(8, 1, 32, 32))

    assert len(contiguous) == 14 * 3 + 3 + 1
    assert [name for name, true in contiguous.items() if not true] == []
    for name, weight in module.named_parameters():
        if weight.ndim == 4:
            assert weight.is_contiguous(memory_format=torch.channels_last), name


def test_steps_never_wait_for_the_device() -> None:
    # Tensors without storage: whatever would copy a value to the host raises.
    module = small_module("bce+batch_dice+focal", class_weights=[2.0]).to("meta")
    batch = Discs().batch(8)
    for key in ("image", "mask", "valid"):
        batch[key] = batch[key].to("meta")
    module.on_train_epoch_start()
    module.on_validation_epoch_start()

    loss = module.training_step(batch, 0)
    module.validation_step(batch, 0)

    assert loss.is_meta
    with pytest.raises(RuntimeError, match="meta tensors"):
        loss.item()


def test_predictions_say_whose_they_are(tmp_path: Path) -> None:
    module, data = small_module(), DiscData()

    found = make_trainer(tmp_path).predict(module, data)

    assert found is not None
    parts = [part for part in found if isinstance(part, dict)]
    whole = data.eval_set.batch()
    assert [case for part in parts for case in part["case"]] == whole["case"]
    assert torch.equal(torch.cat([p["slice_index"] for p in parts]), whole["slice_index"])
    with torch.no_grad():
        expected = module.eval()(whole["image"]).sigmoid()
    torch.testing.assert_close(torch.cat([part["probs"] for part in parts]), expected)


def test_checkpoints_hold_plain_settings_and_make_the_module_again(tmp_path: Path) -> None:
    module = small_module(
        "bce+0.5*dice", class_names=("a", "b"), norm="instance", class_weights=[1.0, 2.0]
    )
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, DiscData(classes=2))
    trainer.save_checkpoint(tmp_path / "one.ckpt")

    stored = torch.load(tmp_path / "one.ckpt", weights_only=True)
    again = SegmentationModule.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)

    assert stored["hyper_parameters"] == {
        "loss": "bce+0.5*dice",
        "class_names": ["a", "b"],
        "outputs": "sigmoid",
        "in_channels": 1,
        "channels": [4, 8],
        "norm": "instance",
        "activation": "relu",
        "learning_rate": 3e-3,
        "weight_decay": 1e-2,
        "class_weights": [1.0, 2.0],
        "normalize": "batch",
        "output_weights": [1.0],
        "output_losses": None,
        "regularization": 0.0,
        "count_padding": True,
        "compile": False,
    }
    assert all(name.startswith("network.") for name in stored["state_dict"])
    image = torch.rand(8, 1, SIZE, SIZE)
    assert torch.equal(again.eval()(image), module.eval()(image))
    assert again.loss.main.expression == "bce+0.5*dice"


def test_a_network_of_ones_own_comes_from_the_command_line(tmp_path: Path) -> None:
    cli = LinkedCLI(
        SegmentationModule,
        DiscData,
        run=False,
        save_config_callback=None,
        args=[
            "--seed_everything=0",
            "--model.loss=bce",
            f"--model.network={__name__}.OneLayer",
            "--model.network.kernel_size=3",
            "--trainer.accelerator=cpu",
            "--trainer.logger=false",
            "--trainer.enable_progress_bar=false",
            f"--trainer.default_root_dir={tmp_path}",
            "--trainer.max_epochs=1",
        ],
    )
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.save_checkpoint(tmp_path / "own.ckpt")

    assert isinstance(cli.model.network, OneLayer)
    assert cli.model.network.layer.weight.shape == (1, 1, 3, 3)
    settings = torch.load(tmp_path / "own.ckpt", weights_only=True)["hyper_parameters"]
    assert "network" not in settings
    assert list(settings["class_names"]) == ["Part 0"]
    assert cli.model.class_names == ("part_0",)


@pytest.mark.filterwarnings(
    # Python 3.12 says so of any fork beside torch's threads; the children run on one thread.
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    module, data = small_module(class_names=["a", "b"]), DiscData(classes=2)
    alone = make_trainer(tmp_path)
    alone.validate(copy.deepcopy(module), data)

    together = make_trainer(tmp_path, strategy="ddp_fork", devices=2, use_distributed_sampler=False)
    together.validate(module, data)

    for key, value in alone.callback_metrics.items():
        if "batch_dice" not in key and key != "val/loss":
            assert together.callback_metrics[key].item() == pytest.approx(value.item(), rel=1e-6), (
                key
            )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_names": ()}, "--model.class_names: found none"),
        ({"class_weights": [1.0, 2.0]}, r"--model.class_weights: found 2, expected 1, one a class"),
        ({"class_weights": [-1.0]}, "--model.class_weights: found"),
        ({"learning_rate": 0.0}, "--model.learning_rate: found 0.0"),
        ({"learning_rate": float("nan")}, "--model.learning_rate: found nan"),
        ({"weight_decay": -0.1}, "--model.weight_decay: found -0.1"),
        ({"loss": "bec"}, r"found 'bec', expected one of .* \(nearest: bce"),
        ({"channels": [4, -8]}, "--model.channels"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SegmentationModule(**settings)


def test_names_of_classes_become_keys() -> None:
    module = SegmentationModule(class_names=["Left Atrium", "left atrium"])

    assert module.class_names == ("left_atrium", "left_atrium_2")
