"""What is seen of a sweep: a table of trials with the Dice so far, or a line at each change."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeps.grid import Trial
from sweeps.trial import Progress, State

_MOST_ROWS = 40
_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "refused": "red"}
_NUMBERS = {"epoch", "val Dice", "minutes"}
_ENDED = ("finished", "failed", "refused")


class ProgressTable:
    """Shows how far the trials of a sweep are.

    Args:
        trials: The trials, in order.
        progress: How far each is at the beginning, by key.
        console: Where it is shown: redrawn on a terminal, a line at each change elsewhere.
    """

    def __init__(
        self, trials: Sequence[Trial], progress: Mapping[str, Progress], console: Console
    ) -> None:
        self._trials = trials
        self.progress = dict(progress)
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "ProgressTable":
        """Begin to show."""
        if self._live is not None:
            self._live.start()
            self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state standing."""
        if self._live is not None:
            self._live.stop()

    def update(self, key: str, progress: Progress) -> None:
        """Take in how far a trial is now."""
        before = self.progress[key]
        self.progress[key] = progress
        if self._live is not None:
            self._draw()
        elif (before.state, before.epoch) != (progress.state, progress.epoch):
            (trial,) = [trial for trial in self._trials if trial.key == key]
            self._console.print(f"{trial.key} {trial.label}: {_words(progress)}", soft_wrap=True)

    def settle(self, stored: Mapping[str, Progress]) -> None:
        """Take in how far trials are that were interrupted.

        Args:
            stored: What the store says of each, by key.
        """
        for key, now in self.progress.items():
            # One with a message is run by somebody else.
            if now.state == "running" and not now.message:
                self.update(key, dataclasses.replace(stored[key], seconds=now.seconds))

    def counts(self) -> dict[str, int]:
        """Number of trials by state."""
        return count_states(self.progress)

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(progress_table(self._trials, self.progress), refresh=True)


def progress_table(trials: Sequence[Trial], progress: Mapping[str, Progress]) -> Table:
    """The trials as a table: those that run first, then those that wait, and the latest ended.

    Args:
        trials: The trials, in order.
        progress: How far each is, by key.
    """
    ranks = {"running": 0, "failed": 1, "refused": 1, "interrupted": 2, "new": 2, "finished": 3}
    shown = sorted(trials, key=lambda trial: ranks[progress[trial.key].state])[:_MOST_ROWS]
    counts = ", ".join(f"{count} {state}" for state, count in count_states(progress).items())
    hidden = len(trials) - len(shown)
    caption = counts + (f"; {hidden} more are not shown" if hidden else "")
    table = Table(caption=caption, box=None, pad_edge=False, caption_justify="left")
    for name in ("trial", "choices", "state", "epoch", "val Dice", "minutes"):
        table.add_column(
            name, justify="right" if name in {"epoch", "val Dice", "minutes"} else "left"
        )
    for trial in shown:
        now = progress[trial.key]
        table.add_row(
            trial.key,
            Text(trial.label),
            Text(now.state, style=_STYLES.get(now.state, "")),
            str(now.epoch) if now.epoch else "",
            "" if math.isnan(now.dice) else f"{now.dice:.3f}",
            f"{now.seconds / 60:.1f}" if now.seconds else "",
        )
    return table


def advice(unfinished: Sequence[State], logs: Path) -> list[str]:
    """What to do about trials that are not finished.

    Args:
        unfinished: Their states.
        logs: Where their output is.

    Returns:
        Sentences, of a line each; none where all are finished.
    """
    refused = unfinished.count("refused")
    lines = []
    if len(unfinished) > refused:
        which = "the others" if refused else "what is not finished"
        lines.append(f"The same command goes on with {which}.")
    if refused:
        lines.append(f"Refused for wrong options: {counted(refused, 'trial')}; mend the options.")
    return [*lines, f"Output: {logs}/<trial>.log"] if lines else []


def count_states(progress: Mapping[str, Progress]) -> dict[str, int]:
    """Number of trials by state."""
    states = [now.state for now in progress.values()]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def counted(number: int, what: str) -> str:
    """A number of things, the thing in its singular: 1 trial, 2 trials."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _words(progress: Progress) -> str:
    words: list[str] = [progress.state]
    if progress.epoch and progress.state != "failed":
        words.append(counted(progress.epoch, "epoch"))
    if not math.isnan(progress.dice):
        words.append(f"val Dice {progress.dice:.3f}")
    if progress.state in _ENDED and progress.seconds:
        words.append(f"{progress.seconds / 60:.1f} min")
    if progress.message:
        words.append(progress.message)
    return ", ".join(words)
