"""A run is written once, whatever is sent twice, resumed or evaluated again."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from lightning_utilities.core.rank_zero import rank_zero_only
from PIL import Image

from tests.places import NewLogger, Place
from tracking.applying import grid_file_stem
from tracking.logger import RunLogger

History = list[tuple[int, int, float]]

# What the pinned MLflow's UI takes apart: key, step, time, id, and which of the two files it is.
GRID_FILE = re.compile(r"([\w.~ -]+)\+step\+(\d+)\+timestamp\+(\d+)\+([0-9a-f-]{36})(.*)")


def history(place: Place, run_id: str, key: str) -> History:
    """Every value that the store holds under a key, as step, time and value."""
    kept = place.client.get_metric_history(run_id, key)
    return sorted((one.step, one.timestamp, one.value) for one in kept)


def png(shade: int, side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


def opened(logger: RunLogger) -> str:
    logger.open()
    assert logger.version is not None
    return logger.version


def test_a_run_is_opened_once_with_what_it_is(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    assert logger.version is None
    logger.describe({"loss": "bce", "seed": 3}, {"segstress.data": "abc"})
    run_id = opened(logger)
    assert opened(logger) == run_id
    assert place.run_ids() == [run_id]
    run = place.client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert run.info.run_name == "bce seed 0"
    assert run.data.params == {"loss": "bce", "seed": "3"}
    assert run.data.tags["segstress.data"] == "abc"
    assert run.data.tags["segstress.revision"]
    assert "environment.json" in place.paths(run_id)
    assert logger.name == "trials"
    assert Path(logger.save_dir) == place.store


def test_a_logger_without_an_experiment_says_so(place: Place) -> None:
    with pytest.raises(ValueError, match="experiment"):
        RunLogger().open()


def test_nothing_is_stored_before_it_is_sent(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    run_id = opened(logger)
    logger.log_metrics({"val/dice": 0.5}, 0)
    assert history(place, run_id, "val/dice") == []
    logger.send()
    assert [(step, value) for step, _, value in history(place, run_id, "val/dice")] == [(0, 0.5)]
    assert logger.unsent == []


def test_sending_opens_the_run(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    logger.log_metrics({"val/dice": 0.5}, 0)
    logger.send()
    assert place.run_ids() == [logger.version]


def test_sending_nothing_opens_no_run(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    logger.send()
    assert logger.version is None
    assert place.run_ids() == []


def test_what_a_checkpoint_kept_is_sent_again_without_a_trace(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    run_id = opened(logger)
    values = {"val/dice": 0.25, "val/dice/absent": float("nan"), "train/loss": float("inf")}
    logger.log_metrics(values, 0)
    kept = list(logger.unsent)
    logger.send()
    before = {key: history(place, run_id, key) for key in values}
    assert all(len(one) == 1 for one in before.values())

    resumed = new_logger()
    resumed.adopt(run_id, evaluate=False)
    resumed.unsent = kept
    resumed.send()
    after = {key: history(place, run_id, key) for key in values}
    # As text, since NaN differs from itself.
    assert repr(after) == repr(before)
    assert place.run_ids() == [run_id]


def test_more_metrics_than_one_call_takes_are_all_sent(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    run_id = opened(logger)
    values = [index / 1001 for index in range(1001)]
    logger.log_curve("test/long", {"dice": values})
    logger.send()
    found = history(place, run_id, "test/long/dice")
    assert [(step, value) for step, _, value in found] == list(enumerate(values))


def test_a_curve_and_its_axis_stand_at_the_same_steps(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    run_id = opened(logger)
    logger.log_curve("test/topn", {"dice": [0.9, 0.5, 0.25], "pixels": [1, 10, 50]})
    logger.send()
    dice, pixels = (history(place, run_id, f"test/topn/{name}") for name in ("dice", "pixels"))
    assert [(step, value) for step, _, value in dice] == [(0, 0.9), (1, 0.5), (2, 0.25)]
    assert [(step, value) for step, _, value in pixels] == [(0, 1.0), (1, 10.0), (2, 50.0)]


def test_hyperparameters_of_lightning_are_not_params(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    logger.log_hyperparams({"long": "x" * 10_000})
    assert place.client.get_run(opened(logger)).data.params == {}


def test_files_and_texts_are_stored_and_replaced(
    place: Place, new_logger: NewLogger, tmp_path: Path
) -> None:
    logger = new_logger()
    run_id = opened(logger)
    file = tmp_path / "counts.parquet"
    for content in (b"first", b"second"):
        file.write_bytes(content)
        logger.log_file(file, "robustness/test")
        logger.log_text(content.decode(), "config/fit.yaml")
    assert place.artifact(run_id, "robustness/test/counts.parquet").read_bytes() == b"second"
    assert place.artifact(run_id, "config/fit.yaml").read_text(encoding="utf-8") == "second"


def test_a_picture_is_named_as_mlflow_itself_names_it(place: Place, new_logger: NewLogger) -> None:
    ours = new_logger()
    ours.log_picture(png(0), "saliency/case_1", step=3)
    theirs = place.client.create_run("0")
    place.client.log_image(
        theirs.info.run_id, np.zeros((8, 8, 3), np.uint8), key="saliency/case_1", step=3
    )

    def named(run_id: str) -> list[tuple[str, str, str]]:
        found = [path for path in place.paths(run_id) if path.startswith("images/")]
        matches = [GRID_FILE.fullmatch(path.removeprefix("images/")) for path in found]
        return sorted((match[1], match[2], match[5]) for match in matches if match)

    assert len(named(theirs.info.run_id)) == 2
    assert named(str(ours.version)) == named(theirs.info.run_id)

    def marks(run_id: str) -> dict[str, str]:
        tags = place.client.get_run(run_id).data.tags
        return {key: value for key, value in tags.items() if "mage" in key}

    assert marks(str(ours.version)) == marks(theirs.info.run_id) != {}


def test_the_same_picture_again_replaces_it(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    logger.log_picture(png(0), "saliency/case_1")
    run_id = str(logger.version)
    first = place.paths(run_id)
    logger.log_picture(png(255), "saliency/case_1")
    assert place.paths(run_id) == first
    for path in first:
        if path.endswith((".png", ".webp")):
            with Image.open(place.artifact(run_id, path)) as image:
                assert np.asarray(image.convert("L")).min() > 250, path


def test_pictures_of_other_keys_and_steps_stand_beside(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    for key, step in (("saliency/a", 0), ("saliency/b", 0), ("attacks/a", 0), ("saliency/a", 1)):
        logger.log_picture(png(0), key, step)
    paths = place.paths(str(logger.version))
    assert len([path for path in paths if path.startswith("images/")]) == 2 * 4
    assert {"saliency/a.png", "saliency/b.png", "attacks/a.png"} <= set(paths)


def test_the_full_picture_is_kept_and_the_grid_loads_a_small_one(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    picture = png(9, side=700)
    logger.log_picture(picture, "saliency/a")
    run_id, stem = str(logger.version), grid_file_stem("saliency/a", 0)
    assert place.artifact(run_id, "saliency/a.png").read_bytes() == picture
    assert place.artifact(run_id, f"images/{stem}.png").read_bytes() == picture
    with Image.open(place.artifact(run_id, f"images/{stem}+compressed.webp")) as small:
        assert max(small.size) < 700


def test_an_evaluation_writes_what_is_new_and_nothing_twice(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    run_id = opened(logger)
    logger.log_metrics({"val/dice": 0.5, "val/empty": float("nan")}, 1)
    logger.log_curve("val/topn", {"dice": [0.9, 0.5]})
    logger.finalize("success")
    keys = ("val/dice", "val/empty", "val/topn/dice")
    before = {key: history(place, run_id, key) for key in keys}

    again = new_logger()
    again.adopt(run_id, evaluate=True)
    again.describe({"loss": "another"}, {})
    again.open()
    again.log_metrics({"val/dice": 0.5, "val/empty": float("nan"), "test/dice": 0.75}, 1)
    again.log_curve("val/topn", {"dice": [0.9, 0.5]})
    again.finalize("success")
    assert repr({key: history(place, run_id, key) for key in keys}) == repr(before)
    assert [value for _, _, value in history(place, run_id, "test/dice")] == [0.75]
    run = place.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {}


def test_an_evaluation_with_another_outcome_warns_and_keeps_the_first(
    place: Place, new_logger: NewLogger, caplog: pytest.LogCaptureFixture
) -> None:
    logger = new_logger()
    run_id = opened(logger)
    logger.log_metrics({"test/dice": 0.5}, 1)
    logger.finalize("success")
    again = new_logger()
    again.adopt(run_id, evaluate=True)
    again.log_metrics({"test/dice": 0.25}, 1)
    again.send()
    assert [value for _, _, value in history(place, run_id, "test/dice")] == [0.5]
    assert "test/dice" in caplog.text


@pytest.mark.parametrize(("ending", "status"), [("success", "FINISHED"), ("failed", "FAILED")])
def test_an_evaluation_leaves_the_status_as_it_is(
    ending: str, status: str, place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    run_id = opened(logger)
    logger.finalize(ending)
    for again_ending in ("success", "failed"):
        again = new_logger()
        again.adopt(run_id, evaluate=True)
        again.log_metrics({"test/dice": 0.5}, 0)
        again.finalize(again_ending)
        assert place.client.get_run(run_id).info.status == status


@pytest.mark.parametrize("evaluate", [False, True])
def test_a_run_that_this_store_does_not_hold_gives_a_new_one(
    evaluate: bool, place: Place, new_logger: NewLogger, caplog: pytest.LogCaptureFixture
) -> None:
    logger = new_logger()
    logger.describe({"loss": "bce"}, {})
    logger.adopt("0" * 32, evaluate=evaluate)
    run_id = opened(logger)
    assert run_id != "0" * 32
    run = place.client.get_run(run_id)
    assert run.data.tags["segstress.checkpoint_from"] == "0" * 32
    assert run.data.params == {"loss": "bce"}
    assert "0" * 32 in caplog.text
    logger.log_metrics({"test/dice": 0.5}, 0)
    logger.finalize("success")
    assert place.client.get_run(run_id).info.status == "FINISHED"


def test_a_deleted_run_is_not_written_to(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    deleted = opened(logger)
    place.client.delete_run(deleted)
    again = new_logger()
    again.adopt(deleted, evaluate=False)
    assert opened(again) != deleted
    assert place.client.get_run(deleted).info.lifecycle_stage == "deleted"


def test_a_resumed_run_is_running_again_and_keeps_its_params(
    place: Place, new_logger: NewLogger, caplog: pytest.LogCaptureFixture
) -> None:
    logger = new_logger()
    logger.describe({"loss": "bce", "seed": 0}, {"segstress.data": "abc"})
    run_id = opened(logger)
    logger.finalize("failed")

    resumed = new_logger()
    resumed.describe({"loss": "dice", "seed": 0, "epochs": 9}, {"segstress.data": "abc"})
    resumed.adopt(run_id, evaluate=False)
    assert opened(resumed) == run_id
    run = place.client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"loss": "bce", "seed": "0", "epochs": "9"}
    assert run.data.tags["segstress.data"] == "abc"
    assert "loss=bce" in caplog.text
    assert "dice" in caplog.text
    resumed.finalize("success")
    ended = place.client.get_run(run_id).info
    assert ended.status == "FINISHED"
    assert ended.end_time is not None


@pytest.mark.parametrize(("word", "status"), [("success", "FINISHED"), ("failed", "FAILED")])
def test_a_run_ends_with_a_status(
    word: str, status: str, place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    run_id = opened(logger)
    logger.finalize(word)
    assert place.client.get_run(run_id).info.status == status


def test_what_is_left_is_sent_at_the_end(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    run_id = opened(logger)
    logger.log_metrics({"val/dice": 0.5}, 0)
    logger.finalize("success")
    assert len(history(place, run_id, "val/dice")) == 1


def test_a_failure_does_not_send_what_no_checkpoint_holds(
    place: Place, new_logger: NewLogger
) -> None:
    """The epoch comes again when the run is resumed, at another time, and would stand twice."""
    logger = new_logger()
    run_id = opened(logger)
    logger.log_metrics({"val/dice": 0.5}, 0)
    logger.finalize("failed")
    assert history(place, run_id, "val/dice") == []


def test_a_logger_that_was_never_opened_ends_without_a_run(
    place: Place, new_logger: NewLogger
) -> None:
    new_logger().finalize("failed")
    assert place.run_ids() == []


def test_only_rank_zero_writes(
    place: Place, new_logger: NewLogger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_id = opened(new_logger())
    before = place.stored(run_id)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    other = new_logger()
    other.adopt(run_id, evaluate=False)
    other.open()
    other.log_metrics({"val/dice": 0.5}, 0)
    other.log_curve("val/topn", {"dice": [0.5]})
    other.log_picture(png(0), "saliency/a")
    other.log_text("text", "config/fit.yaml")
    other.log_file(tmp_path / "absent", "robustness/val")
    other.send()
    other.finalize("failed")
    assert other.unsent == []
    assert place.stored(run_id) == before
    assert place.run_ids() == [run_id]
