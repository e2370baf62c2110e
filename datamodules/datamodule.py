"""The DataModule: a Decathlon task as loaders of 2D slices, split by case."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.case_weights import read_case_weights
from datamodules.dataset_json import slug
from datamodules.decathlon import read_task
from datamodules.intensities import check_intensities
from datamodules.manifest import CaseRecord, StoreSettings
from datamodules.preprocessing import SIZE_MULTIPLE
from datamodules.sampling import OrderedSampler, ShuffledSampler, process_position
from datamodules.slices import SliceDataset, keep_batch
from datamodules.splits import (
    OVERLAP,
    Split,
    SplitKind,
    check_fold,
    overlapping_split,
    split_cases,
)
from datamodules.store import SliceStore, default_cache_dir, open_store
from datamodules.wrong_input import wrong_input

SPLITS = ("train", "val", "test")
# Not the store's version: another layout on disk leaves the data what they are.
FINGERPRINT_VERSION = 1


class DecathlonDataModule(LightningDataModule):
    """A Decathlon task, or one of your own in that format, cut into 2D slices along depth.

    Args:
        root: Folder that holds the folders of the tasks.
        task: Name of the task's folder, which holds dataset.json, imagesTr and labelsTr.
        fold: Fold that tests, 0 to 4; one eighth of the other cases validates, the rest trains.
        split_seed: Seed that deals the cases out to the folds, apart from all other seeds.
        split: folds, or overlap: every case in every split, where there are too few for folds; such
            a run is no result, and no comparison takes it.
        size: Height and width of a slice in pixels, multiples of 8; smaller slices are zero-padded
            at the right and the bottom.
        max_pixel: Value of the brightest voxel of each channel and volume; the darkest becomes 0.
        window: Lowest and highest intensity that are told apart, the same for all volumes, such as
            [-160,240] Hounsfield units for soft tissue in CT; they become 0 and max_pixel.
        percentiles: The same by percentiles of each channel and volume, such as [0.5,99.5] for MR.
        labels: Names of the labels to segment, as in dataset.json; all of them if left out.
        merge_labels: True merges the labels into one foreground, false keeps one class a label.
        ignore_label: Name of the label whose pixels count in no loss and no score.
        case_weights: CSV table with the columns case and weight, for the loss in training; cases
            that it does not name weigh 1.
        batch_size: Slices in a batch of training, in each process.
        eval_batch_size: Slices in a batch of validation, test and prediction, in each process.
        num_workers: Processes that read batches beside the training; 0 reads in its own.
        seed: Seed of the order of the training slices.
        cache_dir: Folder that keeps the prepared slices; segstress/slices in your cache folder if
            left out.

    Raises:
        InputError: If an option is out of range or the task's folder is missing or wrong.
    """

    def __init__(
        self,
        root: str = "data",
        task: str = "Task04_Hippocampus",
        fold: int = 0,
        split_seed: int = 0,
        split: SplitKind = "folds",
        size: tuple[int, int] = (64, 64),
        max_pixel: float = 0.2,
        window: tuple[float, float] | None = None,
        percentiles: tuple[float, float] | None = None,
        labels: list[str] | None = None,
        merge_labels: bool = True,
        ignore_label: str | None = None,
        case_weights: str | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        """Check the options and read dataset.json."""
        super().__init__()
        # Not for the logger: a run has few and short parameters, its whole YAML is an artifact.
        self.save_hyperparameters(logger=False)
        check_fold(fold)
        _check_size(size)
        if not (math.isfinite(max_pixel) and max_pixel > 0):
            raise wrong_input(
                at="--data.max_pixel",
                found=max_pixel,
                expected="a number above 0",
                do="set for example 0.2",
            )
        for option, number, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            if number < least:
                raise wrong_input(
                    at=f"--data.{option}",
                    found=number,
                    expected=f"{least} or more",
                    do="set a larger one",
                )
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.fold = fold
        self.split_seed = split_seed
        self.overlap = split == OVERLAP
        self.settings = StoreSettings(
            (size[0], size[1]), float(max_pixel), check_intensities(window, percentiles)
        )
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
        self.task = read_task(Path(root).expanduser(), task)
        self.ignored = (
            None
            if ignore_label is None
            else self.task.value_of(ignore_label, "--data.ignore_label")
        )
        chosen = self.task.select(labels, without=self.ignored)
        values = [value for value, _ in chosen]
        self.class_labels = [values] if merge_labels else [[value] for value in values]
        self.class_names: tuple[str, ...] = (
            ("foreground",) if merge_labels else tuple(slug(name, value) for value, name in chosen)
        )
        self.in_channels = len(self.task.channels)
        self.case_weights = None if case_weights is None else Path(case_weights).expanduser()
        self._weights: dict[str, float] | None = None
        self._store: SliceStore | None = None
        self._split: Split | None = None

    @property
    def store(self) -> SliceStore:
        """The prepared slices, built at the first use."""
        if self._store is None:
            self._store = open_store(self.task, self.settings, self.cache_dir)
        return self._store

    def prepare_data(self) -> None:
        """Build the slice store; Lightning calls this in one process a machine."""
        open_store(self.task, self.settings, self.cache_dir)

    def setup(self, stage: str) -> None:
        """Open the slice store and split the cases; to fit, read the weights of cases."""
        self.split_cases("train")
        if stage == "fit" and self.case_weights is not None:
            names = [case.name for case in self.task.cases]
            self._weights = read_case_weights(self.case_weights, names)
            if not any(self._weights.get(case, 1.0) for case in self.split_cases("train")):
                raise wrong_input(
                    at=f"--data.case_weights {self.case_weights}",
                    found="a weight of 0 for every training case",
                    expected="one above 0",
                    do="raise one",
                )

    def split_cases(self, split: str) -> tuple[str, ...]:
        """Name the cases of a split, sorted.

        Args:
            split: "train", "val" or "test".

        Raises:
            ValueError: If there is no such split.
        """
        if split not in SPLITS:
            message = f"split is {split!r}, expected one of {', '.join(SPLITS)}"
            raise ValueError(message)
        if self._split is None:
            images = {name: record.image_sha256 for name, record in self.store.records.items()}
            self._split = (
                overlapping_split(images)
                if self.overlap
                else split_cases(images, fold=self.fold, split_seed=self.split_seed)
            )
        cases: tuple[str, ...] = getattr(self._split, split)
        return cases

    def fingerprints(self, split: str) -> dict[str, str]:
        """Hash what an evaluation of a split depends on, the same on any machine.

        Args:
            split: "train", "val" or "test".

        Returns:
            ``data``: sha256 of the contents of all cases and of what makes slices and masks of
            them. ``split``: sha256 of the split's name and the names of its cases.
        """
        contents = [
            (record.case, record.image_sha256, record.label_sha256)
            for _, record in sorted(self.store.records.items())
        ]
        settings: list[object] = [self.settings.facts(), self.class_names, self.class_labels]
        if self.ignored is not None:
            settings.append(self.ignored)
        return {
            "data": _sha256([FINGERPRINT_VERSION, settings, contents]),
            "split": _sha256([split, self.split_cases(split), *[OVERLAP] * self.overlap]),
        }

    def largest_slices(self, split: str, count: int) -> tuple[tuple[str, int], ...]:
        """Choose the slice with the largest true area of each of the first cases.

        Args:
            split: "train", "val" or "test".
            count: How many cases, the first by name.

        Returns:
            Case and index of its slice; of equal areas the lowest index.
        """
        return tuple(
            (case, self._largest_slice(self.store.records[case]))
            for case in self.split_cases(split)[:count]
        )

    def class_areas(
        self, split: str, *, padding: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tell how many pixels each class has in each slice of a split, without reading a voxel.

        Args:
            split: "train", "val" or "test".
            padding: Whether padding counts as pixels of the slice.

        Returns:
            Pixels of the K classes, shape ``(S, K)``, and of the slices, shape ``(S,)``; ignored
            pixels are in neither.
        """
        areas, pixels = [], []
        for record in (self.store.records[case] for case in self.split_cases(split)):
            by_label = {value: np.array(found) for value, found in record.areas.items()}
            areas.append(
                np.stack([sum(by_label[v] for v in values) for values in self.class_labels], axis=1)
            )
            ignored = 0 if self.ignored is None else by_label[self.ignored]
            size = math.prod(self.settings.size if padding else record.shape)
            pixels.append(np.full(record.slices, size) - ignored)
        return np.concatenate(areas), np.concatenate(pixels)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load the training slices, in an order of seed and epoch alone.

        The last batch is left out if it is smaller, unless it is the only one.
        """
        dataset = self._dataset("train", weights=self._weights)
        rank, world_size = process_position()
        sampler = ShuffledSampler(len(dataset), seed=self.seed, rank=rank, world_size=world_size)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=keep_batch,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Load the validation slices in order, each in one process."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Load the test slices in order, each in one process."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Load the test slices in order, each in one process."""
        return self._evaluation_loader("test")

    def case_slices(self, case: str) -> SliceDataset:
        """All slices of one case in order of depth, without weights.

        Args:
            case: Its name, whichever split it belongs to.

        Raises:
            KeyError: If there is no such case.
        """
        return SliceDataset(self.store, (case,), self.class_labels, ignored=self.ignored)

    def _evaluation_loader(self, split: str) -> DataLoader[Batch]:
        dataset = self._dataset(split)
        rank, world_size = process_position()
        return DataLoader(
            dataset,
            batch_size=self.eval_batch_size,
            sampler=OrderedSampler(len(dataset), rank=rank, world_size=world_size),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=keep_batch,
        )

    def _dataset(self, split: str, *, weights: dict[str, float] | None = None) -> SliceDataset:
        return SliceDataset(
            self.store,
            self.split_cases(split),
            self.class_labels,
            ignored=self.ignored,
            weights=weights,
        )

    def _largest_slice(self, record: CaseRecord) -> int:
        labels = [value for values in self.class_labels for value in values]
        return int(np.argmax(np.sum([record.areas[value] for value in labels], axis=0)))


def _check_size(size: tuple[int, int]) -> None:
    if any(length < 1 or length % SIZE_MULTIPLE for length in size):
        raise wrong_input(
            at="--data.size",
            found=list(size),
            expected=f"height and width in multiples of {SIZE_MULTIPLE} pixels",
            do="set for example [64,64]",
        )


def _sha256(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
