"""Which labels of a task become which classes of a mask."""

from collections.abc import Sequence
from dataclasses import dataclass

from datamodules.dataset_json import slug
from datamodules.task import Task


@dataclass(frozen=True)
class Classes:
    """The classes that are segmented.

    Attributes:
        names: Of each class, as keys of metrics need them.
        labels: For each class the values of the labels that it marks.
        ignored: Value of the label whose pixels count for nothing; None where there is none.
    """

    names: tuple[str, ...]
    labels: list[list[int]]
    ignored: int | None

    @property
    def values(self) -> list[int]:
        """The labels of all classes."""
        return [value for marked in self.labels for value in marked]


def choose_classes(
    task: Task, names: Sequence[str] | None, *, merge: bool, ignore: str | None
) -> Classes:
    """The classes that options ask for.

    Args:
        task: Its labels.
        names: ``--data.labels``; None for all.
        merge: ``--data.merge_labels``.
        ignore: ``--data.ignore_label``; None for the one that the task's format defines.

    Raises:
        InputError: If a name is unknown, comes twice or is ignored as well.
    """
    without = ignore or task.ignored
    ignored = None if without is None else task.value_of(without, "--data.ignore_label")
    chosen = task.select(names, without=ignored)
    if merge:
        return Classes(("foreground",), [[value for value, _ in chosen]], ignored)
    slugs = tuple(slug(name, value) for value, name in chosen)
    return Classes(slugs, [[value] for value, _ in chosen], ignored)
