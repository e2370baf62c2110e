"""What the network looks at is measured when it is due, and stored as it was measured."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from callbacks.evaluating import weights_sha256
from callbacks.run_state import RunState
from callbacks.saliency import SaliencyCallback
from errors import InputError
from robustness.attack import AttackBatch
from robustness.attribution import explain
from robustness.attribution_backprop import GuidedBackprop
from robustness.attribution_gradients import Gradient, SmoothGrad
from robustness.attribution_layers import GradCam
from robustness.attribution_method import Attribution
from robustness.attribution_perturbation import Occlusion
from robustness.objectives import OBJECTIVES, Objective
from robustness.pictured import SliceMaps
from robustness.slice_maps import whole_batch
from robustness.snapshots import LargestSlices
from robustness.spread_table import MapMethod, SpreadFile, case_means, measure_spread, spread_frame
from robustness.temperature import matched_temperature, output_objectives, truth_histogram
from robustness.trust import check_trust
from robustness.trust_table import curves_frame, trust_frame
from tests.callbacks.toy import ToyModule, loader, slices, train_loader, trainer, val_loader
from tests.places import NewLogger, Place
from tracking.logger import RunLogger
from tracking.reading import (
    StoredRun,
    fetch_maps,
    fetch_spread,
    fetch_trust,
    fetch_trust_curves,
    list_runs,
)

CPU = torch.device("cpu")


def looking(
    *methods: Attribution,
    **settings: Any,  # noqa: ANN401 (the callback's own)
) -> SaliencyCallback:
    chosen = {"batch_size": 16, "cases": 0, "trust": 0, **settings}
    return SaliencyCallback(list(methods) or [Gradient()], **chosen)


def run_of(logger: RunLogger) -> StoredRun:
    (run,) = [found for found in list_runs("trials") if found.run_id == logger.version]
    return run


def spread_of(logger: RunLogger, split: str = "val") -> SpreadFile:
    found = fetch_spread(run_of(logger), split)
    assert found is not None
    return found


def evaluated(
    module: ToyModule,
    logger: RunLogger,
    callback: SaliencyCallback,
    data: Any = None,  # noqa: ANN401 (a loader)
) -> StoredRun:
    """A run of a validation alone."""
    runner = trainer(callback, RunState(), logger=logger)
    runner.validate(module, val_loader() if data is None else data, verbose=False)
    return run_of(logger)


def reference(module: ToyModule) -> pd.DataFrame:
    """The spread of a network's gradient as it stands, without a trainer."""
    module.eval()
    histogram = truth_histogram(module, val_loader(), device=CPU, batch_size=16)

    def gradient(batch: AttackBatch, objective: Objective) -> Tensor:
        return batch.ascent(objective, batch.image).gradient

    part = measure_spread(
        module,
        val_loader(),
        {"gradient": gradient},
        output_objectives(matched_temperature(histogram)),
        device=CPU,
        batch_size=16,
    )
    return spread_frame([part])


def trained(logger: RunLogger, callback: SaliencyCallback, epochs: int) -> ToyModule:
    module = ToyModule()
    runner = trainer(callback, RunState(), logger=logger, epochs=epochs)
    runner.fit(module, train_loader(), val_loader())
    return module


def test_fit_looks_after_its_last_epoch_alone(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    module = trained(logger, looking(), epochs=3)
    pd.testing.assert_frame_equal(spread_of(logger).frame, reference(module))
    metrics = place.stored(str(logger.version)).metrics
    key = "val/spread/gradient/probability/effective_pixels"
    assert [step for step, _ in metrics[key]] == [2]


def test_every_n_epochs_it_looks_then_and_after_the_last(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    trained(logger, looking(every_n_epochs=2), epochs=5)
    metrics = place.stored(str(logger.version)).metrics
    assert [step for step, _ in metrics["val/spread/gradient/logit/gini"]] == [1, 3, 4]


@pytest.mark.parametrize("command", ["validate", "test"])
def test_the_same_weights_spread_the_same_outside_of_fit(
    command: str, new_logger: NewLogger
) -> None:
    first, second = new_logger(), new_logger()
    module = trained(first, looking(), epochs=2)
    runner = trainer(looking(), RunState(), logger=second)
    getattr(runner, command)(module, val_loader(), verbose=False)
    split = {"validate": "val", "test": "test"}[command]
    in_fit, outside = spread_of(first), spread_of(second, split)
    pd.testing.assert_frame_equal(outside.frame, in_fit.frame)
    assert outside.metadata["split_name"] == split
    for name in ("checkpoint_sha256", "temperature", "methods"):
        assert outside.metadata[name] == in_fit.metadata[name]


def test_another_size_of_the_loaders_batches_changes_nothing(new_logger: NewLogger) -> None:
    found = []
    for batch_size in (3, 12):
        logger = new_logger()
        data = loader(slices(["v0", "v1", "v2"]), batch_size=batch_size)
        evaluated(ToyModule(), logger, looking(), data)
        found.append(spread_of(logger).frame)
    pd.testing.assert_frame_equal(found[0], found[1])


def test_metrics_are_means_of_cases_over_slices_with_foreground(
    place: Place, new_logger: NewLogger
) -> None:
    data = slices(["a", "b"])
    for empty in (0, 1, 6):
        data[empty]["mask"][:] = 0
    logger = new_logger()
    run = evaluated(ToyModule(), logger, looking(), loader(data))
    frame = spread_of(logger).frame
    by_case: dict[str, list[float]] = {}
    for row in frame.to_dict("records"):
        wanted = row["output"] == "probability" and row["measure"] == "entropy"
        if wanted and row["foreground"]:
            by_case.setdefault(row["case"], []).append(row["value"])
    assert {case: len(values) for case, values in by_case.items()} == {"a": 2, "b": 3}
    expected = np.mean([np.mean(values) for values in by_case.values()])
    metric = run.metrics["val/spread/gradient/probability/entropy"]
    assert metric == pytest.approx(float(expected), rel=1e-12)


def test_maps_are_those_of_the_first_cases_at_their_largest_slice(
    place: Place, new_logger: NewLogger
) -> None:
    data = slices(["b", "a", "c"])
    data[1]["mask"][:, :12, :12] = 1  # slice 1 of case b
    data[6]["mask"][:, :12, :12] = 1  # slice 2 of case a
    methods = (Gradient(), SmoothGrad(samples=3), Occlusion())
    module, logger = ToyModule(), new_logger()
    run = evaluated(module, logger, looking(*methods, cases=2, seed=7), loader(data))
    maps = fetch_maps(run, "val")
    assert [(one.case, one.slice_index) for one in maps] == [("a", 2), ("b", 1)]
    batch = sampled(module, data, cases=2)
    for column, method in enumerate(methods):
        expected = explain(method, module, batch, OBJECTIVES["probability_sum"], seed=7).numpy()
        for row, one in enumerate(maps):
            assert one.methods[column] == method.name
            np.testing.assert_array_equal(one.maps[column], expected[row])
    assert maps[0].units.tolist() == [
        "d(sum of p) / d(intensity)",
        "d(sum of p) / d(intensity)",
        "sum of p",
    ]
    assert maps[0].explained == "sum of p"
    paths = place.paths(run.run_id)
    for case in ("a", "b"):
        assert {f"saliency/{case}/{method.name}.png" for method in methods} <= set(paths)
    assert not [path for path in paths if "/c" in path]


def sampled(module: ToyModule, data: list[dict[str, Any]], cases: int) -> AttackBatch:
    chooser = LargestSlices(cases)
    for batch in loader(data):
        chooser.look(batch)
    return whole_batch(module.eval(), chooser.samples(), CPU)


def test_verdicts_are_those_of_the_checks(place: Place, new_logger: NewLogger) -> None:
    data = slices(["a", "b"])
    module, logger = ToyModule(), new_logger()
    methods: tuple[Attribution, ...] = (Occlusion(), Gradient())
    callback = looking(*methods, cases=2, trust=2, seed=3)
    run = evaluated(module, logger, callback, loader(data))
    batch = sampled(module, data, cases=2)
    checked = [
        check_trust(
            module,
            batch,
            {method.name: maps_by(method, module)},
            OBJECTIVES["probability_sum"],
            by_magnitude=["gradient"],
            seed=3,
        )[method.name]
        for method in methods
    ]
    verdicts = [one.verdict for one in checked]
    found = fetch_trust(run, "val")
    assert found is not None
    weights = weights_sha256(module)
    expected = trust_frame(verdicts, {}, explained="sum of p", checkpoint_sha256=weights)
    pd.testing.assert_frame_equal(found, expected)
    curves = fetch_trust_curves(run, "val")
    assert curves is not None
    expected = curves_frame([one.evidence for one in checked])
    pd.testing.assert_frame_equal(curves, expected, atol=1e-9)
    assert run.metrics["val/trust/gradient/stable"] == verdicts[1].stable


def maps_by(method: Attribution, module: ToyModule) -> MapMethod:
    return lambda batch, objective: explain(method, module, batch, objective, 3)


class SmoothToy(ToyModule):
    """Has an activation that guided backpropagation has no rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.network[2] = nn.SiLU()


def test_a_method_that_cannot_work_with_the_network_costs_the_others_nothing(
    place: Place, new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = looking(GuidedBackprop(), Gradient(), cases=1, trust=2)
    run = evaluated(SmoothToy(), new_logger(), callback)
    (one,) = fetch_maps(run, "val")
    assert one.methods.tolist() == ["gradient"]
    trust = fetch_trust(run, "val")
    assert trust is not None
    refused = trust.set_index("method")["refused"]
    assert "silu" in refused["guided_backprop"]
    assert refused["gradient"] == ""
    assert "no maps by guided_backprop: guided_backprop: silu" in capsys.readouterr().out


def test_a_loss_can_be_explained(place: Place, new_logger: NewLogger) -> None:
    module, logger = ToyModule(), new_logger()
    run = evaluated(module, logger, looking(cases=1, explained="bce", spread=()))
    (one,) = fetch_maps(run, "val")
    batch = sampled(module, slices(["v0", "v1", "v2"]), cases=1)
    np.testing.assert_array_equal(one.maps[0], batch.gradient("bce")[0].numpy())
    assert one.units.tolist() == ["d(bce) / d(intensity)"]
    assert fetch_spread(run, "val") is None


class Perfect(ToyModule):
    """Is sure and right wherever there is a square: it has no best temperature."""

    def forward(self, image: Tensor) -> Tensor:
        return (image.mean(dim=1, keepdim=True) - 0.1) * 100


def test_without_a_best_temperature_it_says_so_and_leaves_the_output_out(
    place: Place, new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = new_logger()
    evaluated(Perfect(), logger, looking())
    found = spread_of(logger)
    assert found.metadata["temperature"] == "none"
    assert set(found.frame["output"]) == {"probability", "logit"}
    assert "not measured at a matched temperature" in capsys.readouterr().out


def test_without_a_run_it_says_so_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    runner: Trainer = trainer(looking())
    runner.validate(ToyModule(), val_loader(), verbose=False)
    assert "what the network looks at is not kept" in capsys.readouterr().out


def test_what_is_coming_is_said_before(
    place: Place, new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(ToyModule(), new_logger(), looking(cases=2, trust=2))
    out = capsys.readouterr().out
    assert "Spread on val: gradient of 12 slices" in out
    assert re.search(r"Maps: 1 method on 2 slices, checked on 2, about \d+ s", out)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cases": -1}, ["--saliency.cases", "-1", "0 or more"]),
        ({"trust": -1}, ["--saliency.trust", "-1", "0 or more"]),
        ({"batch_size": 8}, ["--saliency.batch_size", "8", "16 or more"]),
        ({"spread": ("occlusion",)}, ["--saliency.spread", "occlusion", "gradient"]),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        looking(**settings)
    assert all(word in str(caught.value) for word in words)


def test_a_method_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"--saliency.methods: found smoothgrad twice"):
        looking(SmoothGrad(), Gradient(), SmoothGrad(samples=2))


def test_an_objective_that_there_is_not_is_refused_before_training(new_logger: NewLogger) -> None:
    logger = new_logger()
    runner = trainer(looking(explained="frozn"), RunState(), logger=logger)
    with pytest.raises(InputError, match=r"--saliency.explained: .*did you mean frozen"):
        runner.fit(ToyModule(), train_loader(), val_loader())


def test_a_layer_that_there_is_not_is_refused_before_training(new_logger: NewLogger) -> None:
    runner = trainer(
        looking(Gradient(), GradCam(layer="network.44")), RunState(), logger=new_logger()
    )
    with pytest.raises(InputError, match=r"layer of grad_cam: found network.44 .*network.4"):
        runner.fit(ToyModule(), train_loader(), val_loader())


def test_more_cases_can_be_checked_than_are_pictured(place: Place, new_logger: NewLogger) -> None:
    run = evaluated(ToyModule(), new_logger(), looking(cases=1, trust=3))
    assert [one.case for one in fetch_maps(run, "val")] == ["v0"]
    trust = fetch_trust(run, "val")
    assert trust is not None
    assert trust["slices"].tolist() == [3]
    other = evaluated(ToyModule(), new_logger(), looking(cases=0, trust=2))
    assert fetch_maps(other, "val") == []
    trust = fetch_trust(other, "val")
    assert trust is not None
    assert trust["slices"].tolist() == [2]


def test_old_verdicts_do_not_outlive_new_maps(place: Place, new_logger: NewLogger) -> None:
    logger, module = new_logger(), ToyModule()
    evaluated(module, logger, looking(cases=1, trust=2))
    run = evaluated(module, logger, looking(cases=1, explained="truth"))
    trust = fetch_trust(run, "val")
    assert trust is not None
    assert len(trust) == 0


def test_the_measure_of_the_claim_is_logged_case_by_case_once(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    trained(logger, looking(every_n_epochs=1), epochs=2)
    history = place.stored(str(logger.version)).metrics[
        "val/spread_by_case/gradient/probability/effective_pixels"
    ]
    means = case_means(spread_of(logger).frame)
    wanted = means[(means["output"] == "probability") & (means["measure"] == "effective_pixels")]
    assert [step for step, _ in history] == [0, 1, 2]
    found = [float.fromhex(value) for _, value in history]
    assert found == pytest.approx(wanted["value"].tolist(), rel=1e-12)


def test_maps_are_stored_for_pictures_of_all_runs(place: Place, new_logger: NewLogger) -> None:
    """Everything that a comparison draws is in the file: image, truth, prediction."""
    module, logger = ToyModule(), new_logger()
    (one,) = fetch_maps(evaluated(module, logger, looking(cases=1)), "val")
    assert isinstance(one, SliceMaps)
    sample = next(row for row in slices(["v0", "v1", "v2"]) if row["slice_index"] == 0)
    np.testing.assert_array_equal(one.image, sample["image"].numpy())
    np.testing.assert_array_equal(one.mask, sample["mask"].numpy() > 0)
    with torch.no_grad():
        probs = module.eval()(sample["image"][None]).sigmoid()[0].numpy()
    np.testing.assert_allclose(one.probs, probs, atol=1e-6)
