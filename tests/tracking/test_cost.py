"""What logging costs a training: the time that its own thread spends in the logger."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.places import make_place, with_store
from tracking.logger import RunLogger

CALLS = (
    *("open", "log_metrics", "log_curve", "send", "undelivered", "log_file", "log_text"),
    *("log_picture", "finalize"),
)


class Clock:
    """Adds up the time inside the logger's methods, those that call each other once."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self.calls = 0
        self._depth = 0

    def timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (those of the method)
            if threading.current_thread() is not threading.main_thread() or self._depth:
                return method(*arguments, **options)
            self._depth, began = 1, time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                self.calls += 1
                self.spent_s += time.perf_counter() - began
                self._depth = 0

        return call


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_logging_costs_less_than_two_percent_of_a_run(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = with_store(make_place(tmp_path_factory.mktemp("cost"), cases=48), tmp_path_factory)
    clock = Clock()
    for name in CALLS:
        monkeypatch.setattr(RunLogger, name, clock.timed(getattr(RunLogger, name)))
    flags = ["--trainer.max_epochs", "20", "--data.batch_size", "2", "--robustness.pictures", "1"]
    began = time.perf_counter()
    assert place.run("fit", "--config", str(place.config), *flags) == 0
    whole_s = time.perf_counter() - began
    assert clock.calls > 60
    assert clock.spent_s < 0.02 * whole_s, f"{clock.spent_s:.2f} s of {whole_s:.1f} s"
