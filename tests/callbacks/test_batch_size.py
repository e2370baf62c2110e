"""The engine's batches have the size that was measured, once for a machine and a network."""

import json

import pandas as pd
import pytest
import torch
from torch import Tensor

from callbacks.batch_size import MEASURED_FILE
from callbacks.robustness import RobustnessCallback
from callbacks.run_state import RunState
from robustness.batch_size import CANDIDATES
from tests.callbacks.toy import ATTACKS, ToyModule, trainer, val_loader
from tests.places import NewLogger, Place
from tracking.reading import fetch_counts, list_runs


class Sized(ToyModule):
    """Remembers the sizes of the batches that it was given."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__(classes)
        self.sizes: list[int] = []

    def forward(self, image: Tensor) -> Tensor:
        self.sizes.append(len(image))
        return super().forward(image)


def counted(new_logger: NewLogger, batch_size: int, module: ToyModule) -> pd.DataFrame:
    logger = new_logger()
    callback = RobustnessCallback(list(ATTACKS), batch_size=batch_size, pictures=0)
    trainer(callback, RunState(), logger=logger).validate(module, val_loader(), verbose=False)
    (run,) = [found for found in list_runs("trials") if found.run_id == logger.version]
    counts = fetch_counts(run, "val")
    assert counts is not None
    return counts.frame


def test_what_was_measured_is_remembered_and_used(place: Place, new_logger: NewLogger) -> None:
    counted(new_logger, 0, Sized())
    file = place.store / MEASURED_FILE
    (size,) = json.loads(file.read_text(encoding="utf-8")).values()
    assert size in CANDIDATES
    (key,) = json.loads(file.read_text(encoding="utf-8"))
    for part in (f"torch {torch.__version__}", f"{torch.get_num_threads()} threads", "1x16x16"):
        assert part in key
    file.write_text(json.dumps({key: 48}), encoding="utf-8")
    module = Sized()
    counted(new_logger, 0, module)
    assert module.sizes.count(48) > len(module.sizes) / 2
    assert json.loads(file.read_text(encoding="utf-8")) == {key: 48}


@pytest.mark.parametrize("content", ["[]", "{", '{"a": "many", "b": -3}'])
def test_a_broken_file_means_to_measure_anew(
    content: str, place: Place, new_logger: NewLogger
) -> None:
    place.store.mkdir(parents=True, exist_ok=True)
    file = place.store / MEASURED_FILE
    file.write_text(content, encoding="utf-8")
    counted(new_logger, 0, Sized())
    (size,) = json.loads(file.read_text(encoding="utf-8")).values()
    assert size in CANDIDATES


def test_a_size_that_cannot_be_kept_stops_nothing(place: Place, new_logger: NewLogger) -> None:
    (place.store / MEASURED_FILE).mkdir(parents=True)
    assert len(counted(new_logger, 0, Sized()))


def test_the_size_changes_no_count(new_logger: NewLogger) -> None:
    module = ToyModule()
    measured, given = counted(new_logger, 0, module), counted(new_logger, 24, module)
    pd.testing.assert_frame_equal(measured, given)
