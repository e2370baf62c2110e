"""A task on disk, whatever its format: labels, channels, cases, and what is listed wrongly."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.dataset_json import slug
from datamodules.wrong_input import listed, unknown_name, wrong_input


@dataclass(frozen=True)
class Case:
    """A labelled volume.

    Attributes:
        name: Its name, plain and the only one of its task.
        images: Files of the image: one for each channel in order, or a single one that holds all
            channels, several of them in the last of four axes.
        label: File of the label map.
    """

    name: str
    images: tuple[Path, ...]
    label: Path

    @property
    def image(self) -> Path:
        """The image's first file, on whose grid all others lie."""
        return self.images[0]


@dataclass(frozen=True)
class BrokenCase:
    """A case that a task lists and that cannot be used as it is listed.

    Attributes:
        name: Its name, which a usable case may have too where one is listed twice, or the place in
            the list where it has none.
        reason: What is wrong and what to do, in one line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Task:
    """A task on disk.

    Attributes:
        folder: The task's folder.
        labels: Value and name of each label but the background, ascending by value; one to be
            ignored is among them.
        channels: Names of the image's channels, in order.
        cases: The labelled cases that are listed rightly, sorted by name; nothing is said of what
            their files hold.
        broken: Those that are not, sorted by name.
        ignored: Name of the label whose voxels count for nothing, where the format defines one.
    """

    folder: Path
    labels: tuple[tuple[int, str], ...]
    channels: tuple[str, ...]
    cases: tuple[Case, ...]
    broken: tuple[BrokenCase, ...] = ()
    ignored: str | None = None

    def value_of(self, name: str, option: str) -> int:
        """Look up the value of a label by name, in capital or small letters.

        Args:
            name: Name as in ``dataset.json``.
            option: The option that names it.

        Raises:
            InputError: If the name is unknown.
        """
        values = {slug(known, value): value for value, known in self.labels}
        if slug(name, -1) not in values:
            labels = [known for _, known in self.labels]
            raise unknown_name(option=option, kind="label", name=name, known=labels)
        return values[slug(name, -1)]

    def select(
        self, names: Sequence[str] | None, *, without: int | None = None
    ) -> tuple[tuple[int, str], ...]:
        """Choose the labels to segment.

        Args:
            names: Names as in ``dataset.json``; None means all labels.
            without: Value of a label that is not to be segmented.

        Returns:
            Value and name of each label, ascending by value.

        Raises:
            InputError: If a name is unknown, comes twice or is the one left out, or none is left.
        """
        option = "--data.labels"
        left = {value: name for value, name in self.labels if value != without}
        values = list(left) if names is None else [self.value_of(name, option) for name in names]
        if not values:
            raise wrong_input(
                at=option,
                found="no label",
                expected=f"some of {listed(left.values())}",
                do="name one, or leave it out to take all of them",
            )
        for value in values:
            if values.count(value) > 1 or value not in left:
                raise wrong_input(
                    at=option,
                    found=f"{dict(self.labels)[value]} twice or in --data.ignore_label as well",
                    expected="each label once",
                    do="remove one of the two",
                )
        return tuple((value, left[value]) for value in sorted(values))
