"""A process that is killed takes no other's work with it."""

import os
import signal
import time
from pathlib import Path

import pytest

from datamodules.workers import run_apart


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def die_at_odd(number: int) -> int:
    if number % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_once(mark: str) -> str:
    path = Path(mark)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def wait_and_name(name: str) -> str:
    # The first items end last.
    time.sleep(0.2 if name == "a" else 0)
    return name


def refuse(number: int) -> int:
    msg = f"no {number}"
    raise ValueError(msg)


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_each_item_has_its_result_from_another_process(workers: int) -> None:
    counter = Counter()
    found = run_apart(square, range(5), workers=workers, advance=counter)
    assert [result and result[0] for result in found] == [0, 1, 4, 9, 16]
    processes = {result[1] for result in found if result}
    assert os.getpid() not in processes
    assert len(processes) <= workers
    assert counter.count == 5


def test_results_come_in_the_order_of_the_items() -> None:
    assert run_apart(wait_and_name, "abc", workers=2, advance=Counter()) == ["a", "b", "c"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_process_loses_its_own_item_alone(workers: int) -> None:
    counter = Counter()
    found = run_apart(die_at_odd, range(7), workers=workers, advance=counter)
    assert found == [0, None, 4, None, 16, None, 36]
    assert counter.count == 4


def test_what_is_killed_once_is_done_again(tmp_path: Path) -> None:
    for name in "ac":
        (tmp_path / name).touch()
    marks = [str(tmp_path / name) for name in "abc"]
    assert run_apart(die_once, marks, workers=1, advance=Counter()) == ["a", "b", "c"]


def test_an_error_is_raised() -> None:
    with pytest.raises(ValueError, match="no 3"):
        run_apart(refuse, [3], workers=1, advance=Counter())


def test_nothing_to_do_starts_nothing() -> None:
    assert run_apart(square, [], workers=2, advance=Counter()) == []
