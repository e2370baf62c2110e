"""What the module does with its loss: softmax, several outputs, weights, pixels not counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from callbacks.class_weights import ClassWeights
from errors import InputError
from lightning_module.losses.compound import CompoundLoss
from lightning_module.losses.outputs import OutputsLoss
from lightning_module.module import Batch, SegmentationModule
from lightning_module.unet import UNet
from tests.lightning_module.toy import (
    DiscData,
    Discs,
    RememberingLogger,
    make_trainer,
    small_module,
)


@pytest.fixture
def logger() -> RememberingLogger:
    return RememberingLogger()


class DiscDataWithAreas(DiscData):
    """Tells how often classes occur; the first class fills 60 of 100 pixels, the second 3."""

    def class_areas(
        self, split: str, *, padding: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        assert split == "train"
        assert padding
        return np.array([[40, 3], [20, 0]]), np.array([50, 50])


def step(module: SegmentationModule, batch: Batch) -> float:
    """The loss of a training step outside of a trainer."""
    return module.training_step(batch, 0).item()


# Softmax


def test_a_softmax_network_learns_the_background_and_is_scored_on_the_classes(
    tmp_path: Path, logger: RememberingLogger
) -> None:
    module = small_module("ce+batch_dice(background=false)", outputs="softmax", class_names=["a"])
    make_trainer(tmp_path, logger, max_epochs=25).fit(module, DiscData())

    assert logger.last("val/dice") > 0.5
    assert {key for metrics in logger.records for key in metrics[1] if key.startswith("val/")} == {
        "val/loss",
        "val/loss/ce/background",
        "val/loss/ce/a",
        "val/loss/batch_dice/a",
        "val/dice",
        "val/dice/a",
        "val/iou",
        "val/iou/a",
        "val/volumes",
        "val/left_out",
    }


def test_a_class_is_predicted_where_it_is_the_most_probable() -> None:
    module = small_module("ce", outputs="softmax", class_names=["a", "b"])
    image = torch.rand(16, 1, 16, 16)
    module.eval()
    with torch.no_grad():
        winner = module.network(image).argmax(1)
        logits = module(image)
    for index in (1, 2):
        assert torch.equal(logits[:, index - 1] > 0, winner == index)


def test_the_loss_of_a_softmax_is_torchs_cross_entropy() -> None:
    module = small_module("ce", outputs="softmax", class_names=["a"])
    batch = Discs().batch(16)
    expected = cross_entropy(module.network(batch["image"]), batch["mask"][:, 0].long())
    assert step(module, batch) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "outputs", "message"),
    [
        ("ce", "sigmoid", r"'ce': found --model.outputs sigmoid, expected softmax"),
        ("dice+bce", "softmax", r"'bce': found --model.outputs softmax, expected sigmoid"),
    ],
)
def test_a_loss_for_other_outputs_is_refused(loss: str, outputs: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_module(loss, outputs=outputs)


def test_predictions_of_a_softmax_are_its_probabilities() -> None:
    module = small_module("ce", outputs="softmax", class_names=["a", "b"]).eval()
    batch = Discs(classes=2).batch(16)
    with torch.no_grad():
        probs = module.predict_step(batch, 0)["probs"]
        expected = module.network(batch["image"]).softmax(1)[:, 1:]
    torch.testing.assert_close(probs, expected)


def test_labels_that_overlap_are_refused_under_a_softmax(tmp_path: Path) -> None:
    data = DiscData(classes=2)
    data.train_set.mask[:] = 1
    module = small_module("ce", outputs="softmax", class_names=["a", "b"])
    with pytest.raises(InputError, match="found softmax for labels that overlap"):
        make_trainer(tmp_path).fit(module, data)


# Several outputs


def test_every_output_has_its_loss_its_weight_and_its_place_in_the_ledger(
    tmp_path: Path, logger: RememberingLogger
) -> None:
    module = SegmentationModule(
        "bce",
        channels=(4, 8, 8),
        output_weights=[1.0, 0.5, 0.25],
        output_losses=["bce+dice", "batch_dice"],
        regularization=0.001,
    )
    make_trainer(tmp_path, logger, max_epochs=1).fit(module, DiscData())

    train = {
        key.removeprefix("train/"): value
        for _, metrics in logger.records
        for key, value in metrics.items()
        if key.startswith("train/loss")
    }
    assert set(train) == {
        "loss",
        "loss/bce/foreground",
        "loss/output_2.bce/foreground",
        "loss/output_2.dice/foreground",
        "loss/output_3.batch_dice/foreground",
        "loss/regularization",
    }
    total = (
        train["loss/bce/foreground"]
        + 0.5 * (train["loss/output_2.bce/foreground"] + train["loss/output_2.dice/foreground"])
        + 0.25 * train["loss/output_3.batch_dice/foreground"]
        + train["loss/regularization"]
    )
    assert train["loss"] == pytest.approx(total, rel=1e-6)
    assert logger.last("val/loss") == pytest.approx(logger.last("val/loss/bce/foreground"))


def test_a_coarse_output_is_compared_at_full_resolution() -> None:
    network = UNet(1, 1, (4, 8, 8), outputs=3)
    fine, half, quarter = network(torch.rand(4, 1, 16, 16))
    assert [z.shape[-1] for z in (fine, half, quarter)] == [16, 8, 4]
    target = (torch.rand(4, 1, 16, 16) > 0.5).float()
    valid = torch.ones(4, 1, 16, 16, dtype=torch.bool)
    valid[..., 12:] = False
    whole = interpolate(half, (16, 16), mode="bilinear")
    found = OutputsLoss([CompoundLoss("bce"), CompoundLoss("bce")], [1.0, 0.5])(
        [fine, half], target, valid
    )
    one = CompoundLoss("bce")
    expected = one(fine, target, valid).total + 0.5 * one(whole, target, valid).total
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert network.eval()(torch.rand(4, 1, 16, 16)).shape == (4, 1, 16, 16)


def test_the_penalty_is_the_sum_of_squares_of_convolution_weights() -> None:
    batch = Discs().batch(16)
    plain, penalised = small_module("bce"), small_module("bce", regularization=0.01)
    squares = sum(
        weight.square().sum().item()
        for layer in plain.network.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        for weight in [layer.weight]
    )
    assert step(penalised, batch) - step(plain, batch) == pytest.approx(0.01 * squares, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_weights": [1, 0.5, 0.25]}, "--model.output_weights: found 3, expected 1 to 2"),
        ({"output_weights": [1.0, -1.0]}, "--model.output_weights: found .*at least 0"),
        ({"output_weights": [0.0]}, "--model.output_weights: found .*first above"),
        ({"output_weights": []}, "--model.output_weights"),
        (
            {"output_losses": ["bce"]},
            "output_losses: found 1 weights for 2 losses",
        ),
        ({"regularization": -1.0}, "--model.regularization: found -1.0, expected 0 or more"),
        ({"class_weights": "rarest"}, "--model.class_weights: found rarest, expected a list"),
        ({"normalize": "all"}, "--model.normalize: found all"),
        ({"outputs": "argmax"}, "--model.outputs: found argmax, expected sigmoid or softmax"),
    ],
)
def test_settings_no_training_can_have_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_module("bce", **settings)


# Weights


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("inverse_frequency", [6 / 63, 120 / 63]),
        # Shares in the slices that hold the class: 60 / 100 and 3 / 50; their median is 0.33.
        ("median_frequency", [0.33 / 0.6, 0.33 / 0.06]),
    ],
)
def test_weights_of_classes_are_found_in_the_training_masks(
    rule: str, expected: list[float], tmp_path: Path
) -> None:
    module = small_module("bce", class_names=["a", "b"], class_weights=rule)
    trainer = make_trainer(tmp_path, callbacks=[ClassWeights()], max_epochs=1)
    trainer.fit(module, DiscDataWithAreas(classes=2))
    assert module.loss.main.class_weights is not None
    assert module.loss.main.class_weights.tolist() == pytest.approx(expected)

    # An evaluation of the checkpoint weighs alike, and has no training masks to look at.
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again = small_module("bce", class_names=["a", "b"], class_weights=rule)
    logger = RememberingLogger()
    make_trainer(tmp_path, logger).validate(
        again, DiscData(classes=2), ckpt_path=tmp_path / "one.ckpt"
    )
    assert again.loss.main.class_weights is not None
    assert again.loss.main.class_weights.tolist() == pytest.approx(expected)


def test_the_background_of_a_softmax_is_weighed_too(tmp_path: Path) -> None:
    module = small_module(
        "ce", outputs="softmax", class_names=["a", "b"], class_weights="inverse_frequency"
    )
    trainer = make_trainer(tmp_path, callbacks=[ClassWeights()], max_epochs=1)
    trainer.fit(module, DiscDataWithAreas(classes=2, apart=True))
    weights = module.loss.main.class_weights
    assert weights is not None
    assert (weights * torch.tensor([37.0, 60.0, 3.0])).tolist() == pytest.approx(
        [weights[0].item() * 37] * 3, rel=1e-5
    )
    assert weights.mean().item() == pytest.approx(1)


def test_a_parameter_of_a_loss_is_trained_without_decay_and_stays_with_its_loss(
    tmp_path: Path,
) -> None:
    module = small_module("bce+0.01*t_loss")
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, DiscData())
    decay = {
        id(weight): group["weight_decay"]
        for group in trainer.optimizers[0].param_groups
        for weight in group["params"]
    }
    (learnt,) = module.loss.parameters()
    assert decay.pop(id(learnt)) == 0
    assert set(decay.values()) == {0.01}
    trainer.save_checkpoint(tmp_path / "one.ckpt")

    same, other = small_module("bce+0.01*t_loss"), small_module("bce")
    for again in (same, other):
        make_trainer(tmp_path).validate(again, DiscData(), ckpt_path=tmp_path / "one.ckpt")
    assert torch.equal(next(same.loss.parameters()), learnt)
    make_trainer(tmp_path, max_epochs=1).fit(other, DiscData())
    trainer = make_trainer(tmp_path)
    trainer.validate(other, DiscData())
    trainer.save_checkpoint(tmp_path / "other.ckpt")
    make_trainer(tmp_path).validate(same, DiscData(), ckpt_path=tmp_path / "other.ckpt")


def test_a_rule_is_refused_for_a_checkpoint_without_weights(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(small_module("bce"), DiscData())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    ruled = small_module("bce", class_weights="median_frequency")
    with pytest.raises(InputError, match="found median_frequency, but the checkpoint"):
        make_trainer(tmp_path).validate(ruled, DiscData(), ckpt_path=tmp_path / "one.ckpt")


def test_a_tuple_of_weights_weighs_like_a_list() -> None:
    module = small_module("bce", class_names=["a", "b"], class_weights=(1.0, 3.0))
    assert module.loss.main.class_weights is not None
    assert module.loss.main.class_weights.tolist() == [1.0, 3.0]


def test_a_rule_needs_data_that_can_tell(tmp_path: Path) -> None:
    module = small_module("bce", class_weights="inverse_frequency")
    with pytest.raises(InputError, match="inverse_frequency, but the data cannot tell"):
        make_trainer(tmp_path, callbacks=[ClassWeights()]).fit(module, DiscData())


def test_a_rule_that_nothing_follows_is_refused(tmp_path: Path) -> None:
    module = small_module("bce", class_weights="inverse_frequency")
    with pytest.raises(InputError, match="inverse_frequency, but no callback"):
        make_trainer(tmp_path).fit(module, DiscData())


def test_samples_weigh_in_training_by_what_the_batch_says() -> None:
    module, batch = small_module("bce"), Discs().batch(4)
    value = module.loss.main(
        module.network(batch["image"]), batch["mask"], torch.ones_like(batch["valid"])
    )
    weight = torch.tensor([0.0, 1.0, 2.0, 5.0])
    batch["sample_weight"] = weight
    expected = (value.ledger[0, :, 0] * weight).sum() / 4
    assert step(module, batch) == pytest.approx(expected.item(), rel=1e-6)


def test_ignored_pixels_count_neither_in_loss_nor_in_scores(
    tmp_path: Path, logger: RememberingLogger
) -> None:
    module = small_module("bce+batch_dice")
    batch = Discs().batch(16)
    ignored = torch.zeros_like(batch["valid"])
    ignored[:, :, :, :5] = True
    batch["ignored"] = ignored
    changed = batch.copy()
    changed["mask"] = torch.where(ignored, 1 - batch["mask"], batch["mask"])

    def scores(given: Batch) -> tuple[float, dict[str, float]]:
        module.eval()
        module.overlap.reset()
        value = module.training_step(given, 0).item()
        module.validation_step(given, 0)
        return value, module.overlap.compute()

    assert scores(batch) == scores(changed)


def outputs_of(count: int) -> list[Tensor]:
    return [torch.zeros(2, 1, 4, 4) for _ in range(count)]


def test_a_network_of_other_outputs_is_refused() -> None:
    loss = OutputsLoss([CompoundLoss("bce")])
    valid = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(InputError, match="found 1 weights for 2 outputs"):
        loss(outputs_of(2), torch.zeros(2, 1, 4, 4), valid)
