"""The dashboards as Chromium shows them: runs of tiny trainings, served by the ui command."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.places import ATTACKS, ROOT, SETTINGS, Place, make_place, with_store
from tests.tools import CHROMIUM, needs_chromium
from tests.tracking.test_server import free_port, wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    needs_chromium,
]
LOSSES, SEEDS = ("bce", "batch_dice"), ("0", "1")
RUNS = [f"{loss} seed {seed}" for loss in LOSSES for seed in SEEDS]
EPSILONS = [0.001, 0.004, 0.016]
# Axis of each curve with its points.
CURVES = {
    "test/topn_random/pixels": [2, 8],
    "test/top5_beyond_range/level": [0, 0.4, 1],
    "test/fgsm/epsilon": EPSILONS,
}
# MLflow asks who is signed in, also where nobody can sign in, and goes on.
MLFLOWS_OWN = "/mlflow/users/current"
HEADERS = "[data-testid=experiment-view-compare-runs-section-header]"
# What plotly has drawn: title of the horizontal axis, and each trace.
DRAWN = """
() => [...document.querySelectorAll('.js-plotly-plot')].map((plot) => ({
  axis: plot.layout?.xaxis?.title?.text ?? '',
  traces: (plot.data ?? []).map((trace) => ({
    name: trace.name, type: trace.type, fill: trace.fill,
    x: [...(trace.x ?? [])], y: [...(trace.y ?? [])],
  })),
}))
"""
PICTURES = """
() => [...document.images].filter((one) => one.complete && one.naturalWidth > 100)
  .map((one) => decodeURIComponent(one.src))
"""


@dataclass(frozen=True)
class Served:
    """A store with runs, and what the ui command prints of it."""

    place: Place
    printed: str

    def address(self, name: str) -> str:
        found = re.search(rf"^  SegStress: {name} +(http\S+)$", self.printed, re.MULTILINE)
        assert found is not None, self.printed
        return found[1]


@dataclass(frozen=True)
class Seen:
    """A page when all of it is drawn."""

    charts: list[dict[str, Any]]
    sections: list[str]
    pictures: list[str]
    text: str
    complaints: list[str]

    def lines(self, axis: str) -> list[dict[str, Any]]:
        (chart,) = [chart for chart in self.charts if chart["axis"] == axis]
        traces: list[dict[str, Any]] = chart["traces"]
        return traces

    def bars(self) -> list[list[float]]:
        return [
            trace["x"]
            for chart in self.charts
            for trace in chart["traces"]
            if trace["type"] == "bar"
        ]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = with_store(make_place(tmp_path_factory.mktemp("dashboards")), tmp_path_factory)
    settings = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    fgsm = {
        "class_path": "robustness.directed.Fgsm",
        "init_args": {"name": "fgsm", "epsilons": EPSILONS},
    }
    robustness = {**SETTINGS["robustness"], "attacks": [*ATTACKS, fgsm], "pictures": 2}
    settings["robustness"] = {**robustness, "splits": ["test"]}
    settings["saliency"] = {"cases": 0, "trust": 0, "splits": []}
    place.config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    for loss in LOSSES:
        for seed in SEEDS:
            flags = ["--model.loss", loss, "--seed_everything", seed, "--test_after_fit", "true"]
            assert place.run("fit", "--config", str(place.config), *flags) == 0
    port = free_port()
    with (place.folder / "ui.txt").open("w") as output:
        command = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), "ui", "--no-browser", "--port", str(port)],
            cwd=place.folder,
            env={**os.environ, "MLFLOW_TRACKING_URI": place.uri},
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", command)
        yield Served(place, (place.folder / "ui.txt").read_text())
    finally:
        os.killpg(command.pid, signal.SIGTERM)
        command.wait(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: make browser")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def look(browser: Any, address: str) -> Seen:  # noqa: ANN401 (playwright may not be installed)
    """Open a dashboard in a profile of its own, on a screen that is high enough for all of it."""
    page = browser.new_page(viewport={"width": 1680, "height": 6000})
    complaints: list[str] = []
    page.on(
        "console",
        lambda said: (
            complaints.append(f"{said.text} {said.location['url']}")
            if said.type == "error"
            else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector(".js-plotly-plot .trace", timeout=120_000)
    # The page asks for news for ever: it is done when it does not change any more.
    before, loaded = None, None
    while (before, loaded) != (drawn := page.evaluate(DRAWN), pictures := page.evaluate(PICTURES)):
        before, loaded = drawn, pictures
        page.wait_for_timeout(6000)
    seen = Seen(
        charts=drawn,
        sections=[
            header.inner_text().split("\n")[0] for header in page.query_selector_all(HEADERS)
        ],
        pictures=pictures,
        text=page.inner_text("body"),
        complaints=[one for one in complaints if MLFLOWS_OWN not in one],
    )
    page.close()
    return seen


@pytest.fixture(scope="module")
def by_run(served: Served, browser: Any) -> Seen:  # noqa: ANN401
    return look(browser, served.address("test set by run"))


@pytest.fixture(scope="module")
def by_loss(served: Served, browser: Any) -> Seen:  # noqa: ANN401
    return look(browser, served.address("test set by loss"))


def test_the_sections_are_those_of_the_dashboard_and_no_others(by_run: Seen) -> None:
    assert by_run.sections == [
        "Dice on clean images",
        "Dice against number of pixels",
        "Dice against level of the pixels",
        "Dice against epsilon",
        "Saliency: a row a case, a column a run",
        "Masks under attack: a row a case, a column a run",
        "Area under each curve: the mean Dice over its axis",
        "Loss ledger: what each term of the training loss adds, by epoch",
        "Loss ledger: epoch by class, a column a run",
    ]


@pytest.mark.parametrize("axis", CURVES)
def test_a_curve_is_drawn_for_every_run_against_its_float_axis(
    by_run: Seen, served: Served, axis: str
) -> None:
    lines = by_run.lines(axis)
    assert {line["name"] for line in lines} == set(RUNS)
    metric = f"{axis.rpartition('/')[0]}/dice"
    runs = {run.info.run_name: run.info.run_id for run in _runs(served.place)}
    for line in lines:
        assert line["x"] == pytest.approx(CURVES[axis])
        history = served.place.client.get_metric_history(runs[line["name"]], metric)
        assert line["y"] == pytest.approx([kept.value for kept in history])


def test_every_area_has_a_bar_a_run(by_run: Seen, served: Served) -> None:
    drawn = by_run.bars()
    for attack in ("topn_random", "top5_beyond_range", "fgsm"):
        areas = sorted(run.data.metrics[f"test/{attack}/auc"] for run in _runs(served.place))
        assert any(sorted(bars) == pytest.approx(areas) for bars in drawn)


@pytest.mark.parametrize("folder", ["grid~saliency", "grid~attacks", "ledger"])
def test_the_pictures_of_every_run_are_loaded(by_run: Seen, served: Served, folder: str) -> None:
    loaded = [picture for picture in by_run.pictures if f"images/{folder}~" in picture]
    keys = {picture.split("images/")[1].split("+")[0] for picture in loaded}
    assert len(keys) == 2
    for run in _runs(served.place):
        assert {
            picture.split("images/")[1].split("+")[0]
            for picture in loaded
            if run.info.run_id in picture
        } == keys


@pytest.mark.parametrize("axis", CURVES)
def test_losses_are_means_with_a_band_over_their_seeds(
    by_loss: Seen, served: Served, axis: str
) -> None:
    metric = f"{axis.rpartition('/')[0]}/dice"
    traces = by_loss.lines(axis)
    lines = [trace["y"] for trace in traces if not trace["fill"]]
    bands = [trace["y"] for trace in traces if trace["fill"]]
    assert len(bands) == len(LOSSES)
    for loss in LOSSES:
        assert f"Group: {loss}" in by_loss.text
        values = [
            [kept.value for kept in served.place.client.get_metric_history(run.info.run_id, metric)]
            for run in _runs(served.place)
            if run.data.params["loss"] == loss
        ]
        at_points = list(zip(*values, strict=True))
        assert [sum(found) / len(found) for found in at_points] in [pytest.approx(y) for y in lines]
        edges = sorted({min(found) for found in at_points} | {max(found) for found in at_points})
        assert edges in [pytest.approx(sorted({*y} - {None})) for y in bands]


def test_nothing_is_in_the_console(by_run: Seen, by_loss: Seen) -> None:
    assert by_run.complaints == by_loss.complaints == []
    for seen in (by_run, by_loss):
        assert "Error loading shared view" not in seen.text
        # Numbers that were not rounded, as in 0.8808942177.
        assert not re.findall(r"\d\.\d{7,}", seen.text)


def _runs(place: Place) -> list[Any]:
    return [place.client.get_run(run_id) for run_id in place.run_ids()]
