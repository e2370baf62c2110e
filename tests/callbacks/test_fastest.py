"""An evaluation runs as was measured to be fastest, once for a machine and a network."""

import json

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch._inductor import config as inductor_config

from callbacks.fastest import MEASURED_FILE
from callbacks.robustness import RobustnessCallback
from callbacks.run_state import RunState
from errors import InputError
from robustness.batch_size import CANDIDATES
from robustness.layout import LAYOUTS
from tests.callbacks.toy import ATTACKS, ToyModule, trainer, val_loader
from tests.places import NewLogger, Place
from tests.tools import needs_compiler
from tracking.reading import fetch_counts, list_runs


class Sized(ToyModule):
    """Remembers the sizes of the batches that it was given."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__(classes)
        self.sizes: list[int] = []
        self.compiled: list[bool] = []

    def forward(self, image: Tensor) -> Tensor:
        self.sizes.append(len(image))
        self.compiled.append(torch.compiler.is_compiling())
        return super().forward(image)


def counted(
    new_logger: NewLogger, batch_size: int, module: ToyModule, *, compiled: bool = False
) -> pd.DataFrame:
    logger = new_logger()
    callback = RobustnessCallback(
        list(ATTACKS), batch_size=batch_size, compile=compiled, pictures=0
    )
    trainer(callback, RunState(), logger=logger).validate(module, val_loader(), verbose=False)
    (run,) = [found for found in list_runs("trials") if found.run_id == logger.version]
    counts = fetch_counts(run, "val")
    assert counts is not None
    return counts.frame


def test_what_was_measured_is_remembered_and_used(place: Place, new_logger: NewLogger) -> None:
    counted(new_logger, 0, Sized())
    file = place.store / MEASURED_FILE
    (found,) = json.loads(file.read_text(encoding="utf-8")).values()
    assert found["batch_size"] in CANDIDATES
    assert found["layout"] in LAYOUTS
    assert found["compiled"] is False
    (key,) = json.loads(file.read_text(encoding="utf-8"))
    for part in (f"torch {torch.__version__}", f"{torch.get_num_threads()} threads", "1x16x16"):
        assert part in key
    known = {key: {"batch_size": 48, "layout": "contiguous", "compiled": False}}
    file.write_text(json.dumps(known), encoding="utf-8")
    module = Sized()
    counted(new_logger, 0, module)
    assert module.sizes.count(48) > len(module.sizes) / 2
    assert json.loads(file.read_text(encoding="utf-8")) == known


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"KEY": 48}',
        '{"KEY": {"batch_size": 0, "layout": "contiguous", "compiled": false}}',
        '{"KEY": {"batch_size": 16, "layout": "upside_down", "compiled": false}}',
        '{"KEY": {"batch_size": 16, "layout": "contiguous"}}',
    ],
)
def test_a_broken_file_means_to_measure_anew(
    content: str, place: Place, new_logger: NewLogger
) -> None:
    module = ToyModule()
    counted(new_logger, 0, module)
    file = place.store / MEASURED_FILE
    (key,) = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(content.replace("KEY", key), encoding="utf-8")
    counted(new_logger, 0, module)
    found = json.loads(file.read_text(encoding="utf-8"))[key]
    assert found["batch_size"] in CANDIDATES
    assert found["layout"] in LAYOUTS


def test_a_size_that_cannot_be_kept_stops_nothing(place: Place, new_logger: NewLogger) -> None:
    (place.store / MEASURED_FILE).mkdir(parents=True)
    assert len(counted(new_logger, 0, Sized()))


def test_the_size_changes_no_count(new_logger: NewLogger) -> None:
    module = ToyModule()
    measured, given = counted(new_logger, 0, module), counted(new_logger, 24, module)
    pd.testing.assert_frame_equal(measured, given)


@needs_compiler
@pytest.mark.parametrize("batch_size", [0, 16])
def test_a_compiled_network_is_taken_where_it_is_faster(
    batch_size: int, place: Place, new_logger: NewLogger
) -> None:
    module = ToyModule()
    plain = counted(new_logger, 16, module)
    counted(new_logger, batch_size, module, compiled=True)
    file = place.store / MEASURED_FILE
    (key,) = json.loads(file.read_text(encoding="utf-8"))
    assert key.endswith("compiled or not")
    assert ("batches of 16" in key) == bool(batch_size)
    known = {key: {"batch_size": 16, "layout": "channels_last", "compiled": True}}
    file.write_text(json.dumps(known), encoding="utf-8")
    seen = Sized()
    seen.load_state_dict(module.state_dict())
    found = counted(new_logger, batch_size, seen, compiled=True)
    # Attacks look at the network as it is; what they lead to is counted on the compiled one.
    assert seen.compiled.count(True) > len(ATTACKS)
    assert seen.compiled.count(False) >= len(ATTACKS)
    names = ["tp", "fp", "fn"]
    assert (found[names] - plain[names]).abs().to_numpy().max() <= 1


def test_a_machine_that_cannot_compile_is_told(new_logger: NewLogger) -> None:
    torch.compiler.reset()
    without: dict[str, object] = {"cpp.cxx": ("/nowhere/g++",), "force_disable_caches": True}
    told = pytest.raises(InputError, match=r"--robustness.compile: found .*C\+\+ compiler")
    with inductor_config.patch(without), told:
        counted(new_logger, 16, ToyModule(), compiled=True)
