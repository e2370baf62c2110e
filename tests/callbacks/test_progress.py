"""Lines and bars reach the terminal, and nothing is drawn where there is no bar."""

from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.progress import RunProgressBar, progress, say
from tests.callbacks.toy import ToyModule, train_loader, trainer, val_loader


class Works(Callback):
    """Does three pieces of work at validation end, and notes what the bar shows."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, float | None, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        say(trainer, "[before] the work = 3")
        with progress(trainer, "Attacks", 3) as advance:
            for _ in range(3):
                advance(1)
                self._look(trainer)
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        bar = trainer.progress_bar_callback
        if isinstance(bar, RunProgressBar) and bar.progress is not None:
            self.shown += [
                (task.description, task.total, task.completed)
                for task in bar.progress.tasks
                if "Attacks" in task.description and task.visible
            ]


def fit(*callbacks: Callback, **settings: Any) -> None:  # noqa: ANN401 (the trainer's own)
    runner = trainer(*callbacks, epochs=1, **settings)
    runner.fit(ToyModule(), train_loader(), val_loader())


def test_work_is_a_line_of_the_trainers_bar(capsys: pytest.CaptureFixture[str]) -> None:
    works = Works()
    fit(works, RunProgressBar(), enable_progress_bar=True)
    assert [(total, done) for _, total, done in works.shown] == [(3, 1), (3, 2), (3, 3)]
    # Brackets are text, not markup.
    assert "[before] the work = 3" in capsys.readouterr().out


def test_without_a_bar_lines_are_printed_and_nothing_is_drawn(
    capsys: pytest.CaptureFixture[str],
) -> None:
    works = Works()
    fit(works)
    assert works.shown == []
    assert capsys.readouterr().out.splitlines() == ["[before] the work = 3"]


class Watched(RunProgressBar):
    """Notes the step, from 1, and the loss whenever it draws."""

    def __init__(self, refresh_rate: int) -> None:
        super().__init__(refresh_rate)
        self.drawn: list[tuple[int, float]] = []

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        shown = super().get_metrics(trainer, pl_module)
        loss = shown["loss"]
        assert isinstance(loss, float)
        self.drawn.append((trainer.global_step, loss))
        return shown


class Losses(Callback):
    """Notes the loss of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, *rest: object
    ) -> None:
        assert isinstance(outputs, dict)
        self.seen.append(outputs["loss"].item())


def test_the_loss_is_looked_at_where_it_is_drawn_and_after_the_last_step() -> None:
    bar, losses = Watched(2), Losses()
    fit(bar, losses, enable_progress_bar=True)
    steps = len(losses.seen)
    assert steps % 2 == 1
    drawn = dict(bar.drawn)
    assert sorted(drawn) == [*range(2, steps, 2), steps]
    assert all(loss == losses.seen[step - 1] for step, loss in drawn.items())
