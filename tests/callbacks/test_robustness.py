"""Attacks come when they are due and measure the same everywhere."""

from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.checkpoint import run_checkpoints
from callbacks.evaluating import weights_sha256
from callbacks.robustness import RobustnessCallback
from callbacks.run_state import RunState
from errors import InputError
from robustness.counts import CountsFile, counts_frame
from robustness.directed import Fgsm
from robustness.engine import evaluate
from robustness.plan import make_plan
from tests.callbacks.toy import (
    ATTACKS,
    ToyModule,
    loader,
    slices,
    train_loader,
    trainer,
    val_loader,
)
from tests.places import NewLogger, Place
from tracking.logger import RunLogger
from tracking.reading import fetch_counts, fetch_snapshots, list_runs
from tracking.views import find_attacks


def attacks(**settings: Any) -> RobustnessCallback:  # noqa: ANN401 (the callback's own)
    return RobustnessCallback(list(ATTACKS), **{"batch_size": 16, "pictures": 0, **settings})


def fetched(run_id: str, split: str = "val") -> CountsFile:
    (run,) = [found for found in list_runs("trials") if found.run_id == run_id]
    counts = fetch_counts(run, split)
    assert counts is not None
    return counts


def fit(
    logger: RunLogger | None,
    *callbacks: Callback,
    **settings: Any,  # noqa: ANN401 (the trainer's own)
) -> ToyModule:
    module = ToyModule()
    trainer(*callbacks, logger=logger, **settings).fit(module, train_loader(), val_loader())
    return module


def reference(module: ToyModule) -> pd.DataFrame:
    """The counts of a network as it stands, without a trainer."""
    plan = make_plan(ATTACKS)
    found = evaluate(module.eval(), val_loader(), plan, device=torch.device("cpu"), batch_size=16)
    return counts_frame([found.counts.partial()], plan.rows, ["class_0"])


class StopAfter(Callback):
    """Asks the trainer to stop after an epoch, at one of its hooks."""

    def __init__(self, epoch: int, hook: str) -> None:
        self.epoch = epoch
        self.hook = hook

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop(trainer, "on_validation_end")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop(trainer, "on_train_epoch_end")

    def _stop(self, trainer: Trainer, hook: str) -> None:
        if trainer.current_epoch == self.epoch and self.hook == hook:
            trainer.should_stop = True


def test_fit_attacks_after_its_last_epoch_alone(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    module = fit(logger, attacks(), RunState(), epochs=3)
    found = fetched(str(logger.version))
    pd.testing.assert_frame_equal(found.frame, reference(module))
    stored = place.stored(str(logger.version))
    assert [step for step, _ in stored.metrics["val/topn_random/auc"]] == [2]


@pytest.mark.parametrize("command", ["validate", "test"])
def test_the_same_weights_give_the_same_counts_outside_of_fit(
    command: str, new_logger: NewLogger
) -> None:
    first = new_logger()
    module = fit(first, attacks(), RunState())
    split = "val" if command == "validate" else "test"
    second = new_logger()
    runner = trainer(attacks(), RunState(), logger=second)
    getattr(runner, command)(module, val_loader(), verbose=False)
    in_fit, outside = fetched(str(first.version)), fetched(str(second.version), split)
    pd.testing.assert_frame_equal(outside.frame, in_fit.frame)
    assert outside.metadata["split_name"] == split
    assert outside.metadata["checkpoint_sha256"] == in_fit.metadata["checkpoint_sha256"]
    assert outside.metadata["attacks"] == in_fit.metadata["attacks"]


def test_another_size_of_the_loaders_batches_gives_the_same_counts(new_logger: NewLogger) -> None:
    module = ToyModule()
    found = []
    for batch_size in (3, 12):
        logger = new_logger()
        runner = trainer(attacks(), RunState(), logger=logger)
        data = loader(slices(["v0", "v1", "v2"]), batch_size=batch_size)
        runner.validate(module, data, verbose=False)
        found.append(fetched(str(logger.version)).frame)
    pd.testing.assert_frame_equal(found[0], found[1])


def test_every_n_epochs_attacks_then_and_after_the_last(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    module = fit(logger, attacks(every_n_epochs=2), RunState(), epochs=5)
    stored = place.stored(str(logger.version)).metrics
    assert [step for step, _ in stored["val/topn_random/auc"]] == [1, 3, 4]
    assert [step for step, _ in stored["val/top5_beyond_range/dice_at_0.4"]] == [1, 3, 4]
    pd.testing.assert_frame_equal(fetched(str(logger.version)).frame, reference(module))


@pytest.mark.parametrize("every", [0, 1])
def test_curves_are_logged_once_beside_their_axis(
    every: int, place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    fit(logger, attacks(every_n_epochs=every), RunState(), epochs=3)
    stored = place.stored(str(logger.version)).metrics
    for attack, axis, points in (
        ("top5_beyond_range", "level", [0.0, 0.4, 1.0]),
        ("topn_random", "pixels", [2.0, 8.0]),
    ):
        expected = [(step, point.hex()) for step, point in enumerate(points)]
        assert stored[f"val/{attack}/{axis}"] == expected
        for name in ("dice", "slice_dice", "change"):
            assert [step for step, _ in stored[f"val/{attack}/{name}"]] == list(range(len(points)))


def test_dashboards_find_every_attack_in_what_is_logged(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    fit(logger, attacks(), RunState(), epochs=1)
    found = find_attacks(place.stored(str(logger.version)).metrics, "val")
    axes = {attack.name: attack.axis for attack in found}
    assert axes == {attack.name: attack.axis for attack in ATTACKS}


def test_no_attack_before_training(
    new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger, module = new_logger(), ToyModule()
    robust = attacks(every_n_epochs=1)
    runner = trainer(robust, RunState(), logger=logger, num_sanity_val_steps=-1, epochs=1)
    runner.fit(module, train_loader(), val_loader())
    assert capsys.readouterr().out.count("Attacks on val") == 1
    pd.testing.assert_frame_equal(fetched(str(logger.version)).frame, reference(module))


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_epoch_end"])
@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("asks_first", [True, False])
def test_a_training_that_stops_early_is_attacked_with_its_last_weights(
    asks_first: bool, every: int, hook: str, place: Place, new_logger: NewLogger
) -> None:
    logger, stop = new_logger(), StopAfter(1, hook)
    robust = attacks(every_n_epochs=every)
    ordered = [stop, robust] if asks_first else [robust, stop]
    module = fit(logger, *ordered, RunState(), epochs=9)
    pd.testing.assert_frame_equal(fetched(str(logger.version)).frame, reference(module))
    stored = place.stored(str(logger.version)).metrics
    steps = [step for step, _ in stored["val/topn_random/auc"]]
    assert steps == ([0, 1] if every else [1])
    assert [step for step, _ in stored["val/topn_random/dice"]] == [0, 1]


def test_a_stop_that_must_wait_gives_curves_once(place: Place, new_logger: NewLogger) -> None:
    """``min_epochs`` keeps a training going after a callback has asked it to stop."""
    logger = new_logger()
    stop = StopAfter(0, "on_validation_end")
    module = fit(logger, stop, attacks(), RunState(), epochs=6, min_epochs=4)
    stored = place.stored(str(logger.version)).metrics
    assert module.trainer.current_epoch == 4
    assert [step for step, _ in stored["val/topn_random/dice"]] == [0, 1]
    pd.testing.assert_frame_equal(fetched(str(logger.version)).frame, reference(module))


def test_a_last_epoch_without_validation_is_attacked_all_the_same(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    module = fit(logger, attacks(), RunState(), epochs=3, check_val_every_n_epoch=2)
    pd.testing.assert_frame_equal(fetched(str(logger.version)).frame, reference(module))
    stored = place.stored(str(logger.version)).metrics
    assert [step for step, _ in stored["val/topn_random/auc"]] == [2]


def test_a_limit_in_steps_ends_with_attacks(new_logger: NewLogger) -> None:
    logger = new_logger()
    module = fit(logger, attacks(), RunState(), epochs=-1, max_steps=4)
    pd.testing.assert_frame_equal(fetched(str(logger.version)).frame, reference(module))


def test_validation_in_the_middle_of_an_epoch_is_attacked_once(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    module = fit(logger, attacks(), RunState(), epochs=2, val_check_interval=1)
    stored = place.stored(str(logger.version)).metrics
    assert [step for step, _ in stored["val/topn_random/auc"]] == [1]
    pd.testing.assert_frame_equal(fetched(str(logger.version)).frame, reference(module))


def test_limited_validation_limits_the_attacks(new_logger: NewLogger) -> None:
    logger = new_logger()
    runner = trainer(attacks(), RunState(), logger=logger, limit_val_batches=1)
    runner.validate(ToyModule(), loader(slices(["v0", "v1", "v2"], each=8)), verbose=False)
    assert set(fetched(str(logger.version)).frame["case"]) == {"v0"}


def test_a_training_without_validation_is_not_attacked(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    runner = trainer(attacks(), RunState(), logger=logger, limit_val_batches=0)
    runner.fit(ToyModule(), train_loader(), val_loader())
    assert place.paths(str(logger.version)) == ["environment.json"]


def test_without_a_run_it_says_so_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    module = fit(None, attacks())
    assert "not kept" in capsys.readouterr().out
    assert module.trainer.state.finished


def test_what_is_coming_is_said_before(
    new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(attacks(), RunState(), logger=new_logger()).validate(
        ToyModule(), val_loader(), verbose=False
    )
    # Clean, three levels, two counts in two repeats each; three cases of four slices.
    assert "9 forward and 1 backward passes of 12 slices" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["anterior", "posterior"], ["anterior", "posterior"]),
        (None, ["class_0", "class_1"]),
        (["only_one"], ["class_0", "class_1"]),
    ],
)
def test_classes_have_the_names_of_the_module(
    names: list[str] | None, expected: list[str], new_logger: NewLogger
) -> None:
    logger, module = new_logger(), ToyModule(classes=2)
    if names is not None:
        module.class_names = names  # type: ignore[assignment]
    runner = trainer(attacks(), RunState(), logger=logger)
    runner.validate(module, val_loader(classes=2), verbose=False)
    assert sorted(set(fetched(str(logger.version)).frame["class"])) == expected


def test_attacks_run_in_the_precision_of_the_trainer(new_logger: NewLogger) -> None:
    module, look = ToyModule(), new_logger()
    runner = trainer(attacks(), RunState(), logger=look, precision="bf16-mixed")
    runner.validate(module, val_loader(), verbose=False)
    assert module.dtypes == {torch.bfloat16}

    def in_bfloat16(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: torch.Tensor = module(image)
        return logits

    plan = make_plan(ATTACKS)
    module.eval()
    found = evaluate(in_bfloat16, val_loader(), plan, device=torch.device("cpu"), batch_size=16)
    expected = counts_frame([found.counts.partial()], plan.rows, ["class_0"])
    pd.testing.assert_frame_equal(fetched(str(look.version)).frame, expected)


def test_splits_choose_where_to_attack(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    runner = trainer(attacks(splits=("test",)), RunState(), logger=logger, epochs=1)
    module = ToyModule()
    runner.fit(module, train_loader(), val_loader())
    assert place.paths(str(logger.version)) == ["environment.json"]
    runner.test(module, val_loader(), verbose=False)
    assert "robustness/test/counts.parquet" in place.paths(str(logger.version))


def test_pictures_are_of_the_first_cases_at_their_largest_slice(
    place: Place, new_logger: NewLogger
) -> None:
    data = slices(["b", "a", "c"])
    data[1]["mask"][:, :12, :12] = 1  # slice 1 of case b
    data[6]["mask"][:, :12, :12] = 1  # slice 2 of case a
    logger = new_logger()
    runner = trainer(attacks(pictures=2), RunState(), logger=logger)
    runner.validate(ToyModule(), loader(data), verbose=False)
    (run,) = list_runs("trials")
    shown = fetch_snapshots(run, "val")
    assert [(one.case, one.slice_index, one.attack) for one in shown] == [
        ("a", 2, "top5_beyond_range"),
        ("b", 1, "top5_beyond_range"),
    ]
    paths = place.paths(run.run_id)
    assert {"saliency/a.png", "saliency/b.png", "attacks/a.png", "attacks/b.png"} <= set(paths)
    assert not [path for path in paths if path.endswith("/c.png")]


def test_the_sha_is_that_of_the_weights(new_logger: NewLogger) -> None:
    module, same, other = ToyModule(), ToyModule(), ToyModule()
    with torch.no_grad():
        next(other.parameters()).add_(1e-7)
    assert weights_sha256(module) == weights_sha256(same) != weights_sha256(other)
    logger = new_logger()
    trainer(attacks(), RunState(), logger=logger).validate(module, val_loader(), verbose=False)
    assert fetched(str(logger.version)).metadata["checkpoint_sha256"] == weights_sha256(same)


def test_the_seed_of_the_attacks_is_their_own(new_logger: NewLogger) -> None:
    module, found = ToyModule(), []
    for seed, training_seed in ((0, 1), (0, 2), (7, 1)):
        torch.manual_seed(training_seed)
        logger = new_logger()
        runner = trainer(attacks(seed=seed), RunState(), logger=logger)
        runner.validate(module, val_loader(), verbose=False)
        found.append(fetched(str(logger.version)))
    pd.testing.assert_frame_equal(found[0].frame, found[1].frame)
    assert not found[0].frame.equals(found[2].frame)
    assert found[0].metadata["attacks"] == found[1].metadata["attacks"]
    assert found[0].metadata["attacks"] != found[2].metadata["attacks"]


class Fragile(ToyModule):
    """Diverges where an image is brighter than any clean one, once it is told to."""

    broken = False

    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(image)
        if not self.broken:
            return logits
        return torch.where(image.amax((1, 2, 3), keepdim=True) > 0.9, torch.nan, logits)


@pytest.mark.parametrize("every", [0, 1])
def test_an_epoch_that_cannot_be_attacked_is_saved_before_that_is_said(
    every: int, place: Place, new_logger: NewLogger
) -> None:
    logger, module = new_logger(), Fragile()
    module.broken = True
    runner = trainer(
        attacks(every_n_epochs=every),
        RunState(),
        *run_checkpoints(),
        logger=logger,
        epochs=2,
        enable_checkpointing=True,
    )
    with pytest.raises(InputError, match="attack top5_beyond_range: the network gives NaN"):
        runner.fit(module, train_loader(), val_loader())
    held = torch.load(place.checkpoint(str(logger.version)), weights_only=True)
    assert held["epoch"] == (0 if every else 1)
    stored = held["state_dict"]
    assert all(torch.equal(stored[name], own) for name, own in module.state_dict().items())
    assert place.client.get_run(str(logger.version)).info.status == "FAILED"


def test_epsilons_are_given_in_parts_of_the_range_too(place: Place, new_logger: NewLogger) -> None:
    logger, attack = new_logger(), Fgsm("fgsm", (0.01, 0.05), low=0.1, high=0.2)
    robust = RobustnessCallback([attack], batch_size=16, pictures=0)
    trainer(robust, RunState(), logger=logger).validate(ToyModule(), val_loader(), verbose=False)
    stored = place.stored(str(logger.version)).metrics["val/fgsm/epsilon_share"]
    assert [float.fromhex(value) for _, value in stored] == pytest.approx([0.1, 0.5])
