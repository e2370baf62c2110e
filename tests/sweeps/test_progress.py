"""What is seen of a sweep is true, short and in order."""

import io
from pathlib import Path

from rich.console import Console

from sweeps.grid import Trial
from sweeps.progress import ProgressTable, advice, count_states, progress_table
from sweeps.trial import Progress

TRIALS = [Trial(f"key{index}", (), (("model.loss", f"loss{index}"),)) for index in range(50)]


def shown(progress: dict[str, Progress]) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    console.print(progress_table(TRIALS, progress))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def test_those_that_run_come_first_and_the_rest_is_counted() -> None:
    progress = {trial.key: Progress("new") for trial in TRIALS}
    progress["key7"] = Progress("running", "id", 3, 0.87654, 125)
    progress["key3"] = Progress("finished", "id", 5, 0.9, 60)
    lines = shown(progress)
    assert lines[1].split() == ["key7", "loss", "loss7", "running", "3", "0.877", "2.1"]
    assert lines[2].split() == ["key0", "loss", "loss0", "new"]
    assert len(lines) == 1 + 40 + 1
    assert lines[-1] == "48 new, 1 finished, 1 running; 10 more are not shown"


def test_elsewhere_than_on_a_terminal_each_change_is_a_line() -> None:
    stream = io.StringIO()
    progress = {trial.key: Progress("new") for trial in TRIALS[:2]}
    with ProgressTable(TRIALS[:2], progress, Console(file=stream, width=40)) as table:
        table.update("key1", Progress("running"))
        table.update("key1", Progress("running", seconds=9))
        table.update("key1", Progress("running", "id", 1, 0.5, 20))
        table.update("key1", Progress("failed", "id", 1, 0.5, 30, "error: of any length " * 5))
    lines = stream.getvalue().splitlines()
    assert lines[:2] == [
        "key1 loss loss1: running",
        "key1 loss loss1: running, 1 epoch, val Dice 0.500",
    ]
    assert len(lines) == 3
    assert lines[2].startswith("key1 loss loss1: failed, val Dice 0.500, 0.5 min, error: of any")
    assert table.counts() == {"new": 1, "failed": 1}


def test_states_are_counted() -> None:
    states = {"a": Progress("new"), "b": Progress("failed"), "c": Progress("new")}
    assert count_states(states) == {"new": 2, "failed": 1}


def test_what_was_interrupted_does_not_run_in_the_last_table() -> None:
    running = Progress("running", "id", 2, 0.5, 30)
    elsewhere = Progress("running", message="another process runs this trial")
    progress = {"key0": running, "key1": running, "key2": elsewhere}
    with ProgressTable(TRIALS[:3], progress, Console(file=io.StringIO())) as table:
        stored = Progress("interrupted", "id", 2, 0.5)
        table.settle({"key0": stored, "key1": Progress("new"), "key2": stored})
    assert table.progress["key0"] == Progress("interrupted", "id", 2, 0.5, 30)
    assert table.counts() == {"interrupted": 1, "new": 1, "running": 1}


def test_advice_is_what_helps() -> None:
    on = "The same command goes on with"
    wrong = "Refused for wrong options: 1 trial; mend the options."
    output = "Output: logs/<trial>.log"
    assert advice([], Path("logs")) == []
    assert advice(["new", "failed"], Path("logs")) == [f"{on} what is not finished.", output]
    assert advice(["refused", "new"], Path("logs")) == [f"{on} the others.", wrong, output]
    assert advice(["refused"], Path("logs")) == [wrong, output]
