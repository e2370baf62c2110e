"""Which of the store's cases train, validate and test."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from datamodules.case_areas import foreground_ml
from datamodules.splits import Split, overlapping_split, split_cases
from datamodules.store import SliceStore
from datamodules.wrong_input import wrong_input


@dataclass(frozen=True)
class Dealing:
    """How cases are dealt out.

    Attributes:
        fold: The fold that tests.
        folds: Number of folds.
        split_seed: Seed of the deal.
        overlap: Whether every case is in every split.
        stratify: Whether folds get like shares of cases with little and with much foreground.
    """

    fold: int
    folds: int
    split_seed: int
    overlap: bool
    stratify: bool

    def split(
        self, store: SliceStore, labels: Collection[int], groups: Mapping[str, str] | None
    ) -> Split:
        """Deal out the cases of a store.

        Args:
            store: The cases, and those that were left out.
            labels: Values of the labels that are foreground.
            groups: Group of each case that has one.

        Raises:
            InputError: If there are too few cases, or none is left to train, validate or test.
        """
        images = {name: record.image_sha256 for name, record in store.records.items()}
        if self.overlap:
            return overlapping_split(images)
        if not self.stratify:
            # What is left out keeps its place: mended, it moves no other case to another fold.
            images = {one.name: one.name for one in store.broken} | images
        split = split_cases(
            images,
            fold=self.fold,
            split_seed=self.split_seed,
            folds=self.folds,
            groups=groups,
            volumes=foreground_ml(store.records, labels) if self.stratify else None,
        ).only(store.records)
        for name, cases in (("train", split.train), ("val", split.val), ("test", split.test)):
            if not cases:
                raise wrong_input(
                    at="--data.on_error skip",
                    found=f"no case left to {name}",
                    expected="one in each split",
                    do="mend the cases that were left out, or set another --data.fold",
                )
        return split
