"""The DataModule: a Decathlon task as loaders of 2D slices, split by case."""

import math
from pathlib import Path

import numpy as np
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation, Recipe
from datamodules.batch import Batch
from datamodules.case_areas import class_areas, largest_slice
from datamodules.case_weights import read_case_weights
from datamodules.classes import choose_classes
from datamodules.dealing import Dealing
from datamodules.decathlon import read_task
from datamodules.fingerprint import data_fingerprint, split_fingerprint
from datamodules.groups import read_case_groups
from datamodules.intensities import check_intensities
from datamodules.numbers_given import check_above_zero, check_numbers, check_share
from datamodules.sampling import OrderedSampler, ShuffledSampler, process_position
from datamodules.slice_grid import Larger, Orientation
from datamodules.slices import SliceDataset, frame_offsets, keep_batch
from datamodules.slicing import StoreSettings, check_slicing
from datamodules.splits import (
    FOLDS,
    OVERLAP,
    Split,
    SplitKind,
    check_fold,
)
from datamodules.store import OnError, SliceStore, default_cache_dir, open_store
from datamodules.wrong_input import wrong_input

SPLITS = ("train", "val", "test")
# Slices that are shuffled together: as many as a common machine keeps in its cache of files.
_SHUFFLED_BYTES = 1 << 29


class DecathlonDataModule(LightningDataModule):
    """A task of the Decathlon or of nnU-Net, or one of your own like them, cut into 2D slices.

    Args:
        root: Folder that holds the folders of the tasks.
        task: Name of the task's folder, which holds dataset.json, imagesTr and labelsTr.
        fold: Fold that tests, from 0; one eighth of the other cases validates, the rest trains.
        folds: Number of folds.
        split_seed: Seed that deals the cases out to the folds, apart from all other seeds.
        split: folds, or overlap: every case in every split, where there are too few for folds; such
            a run is no result, and no comparison takes it.
        stratify: Whether folds get like shares of cases with little and with much foreground.
        groups: CSV table with the columns case and group, such as the patient; cases of one group
            are never split apart, nor are cases with the same image.
        on_error: What a case does that cannot be used: stop, or skip, which goes on without it and
            says so.
        size: Height and width of a slice in pixels, multiples of 8; smaller slices are zero-padded
            at the right and the bottom.
        larger: What becomes of slices that are larger than the size: refuse, crop keeps the middle,
            tile cuts them into the least number of equal pieces, none overlapping.
        axis: Axis along which slices are cut, 0 to 2; 2 is the depth.
        orientation: Whether axes are those of the array as stored, or canonical: turned so that 0
            runs from left to right, 1 from back to front and 2 upwards.
        spacing_mm: Distances of rows and of columns in mm to which slices are resampled, such as
            [1.0,1.0]; those of each volume if left out.
        neighbours: How many frames on each side of a slice become further channels of its image:
            the slice first, then the frames before and after it, nearest first.
        max_pixel: Value of the brightest voxel of each channel and volume; the darkest becomes 0.
        window: Lowest and highest intensity that are told apart, the same for all volumes, such as
            [-160,240] Hounsfield units for soft tissue in CT; they become 0 and max_pixel.
        percentiles: The same by percentiles of each channel and volume, such as [0.5,99.5] for MR.
        labels: Names of the labels to segment, as in dataset.json; all of them if left out.
        merge_labels: True merges the labels into one foreground, false keeps one class a label.
        ignore_label: Name of the label whose pixels count in no loss and no score; in folders of
            nnU-Net the one called ignore if left out.
        case_weights: CSV table with the columns case and weight, for the loss in training; cases
            that it does not name weigh 1.
        batch_size: Slices in a batch of training, in each process.
        eval_batch_size: Slices in a batch of validation, test and prediction, in each process.
        keep_empty: Share of the slices without foreground that each epoch of training takes, drawn
            anew for each; evaluation takes all.
        augmentation: How training slices vary from epoch to epoch: none, spatial, intensity or all.
        num_workers: Processes that read batches beside the training; 0 reads in its own.
        seed: Seed of the order of the training slices.
        cache_dir: Folder that keeps the prepared slices; segstress/slices in your cache folder if
            left out.
        prepare_workers: Processes that prepare slices, each with a volume in memory; one a core if
            left out.

    Raises:
        InputError: If an option is out of range or the task's folder is missing or wrong.
    """

    def __init__(
        self,
        root: str = "data",
        task: str = "Task04_Hippocampus",
        fold: int = 0,
        folds: int = FOLDS,
        split_seed: int = 0,
        split: SplitKind = "folds",
        stratify: bool = False,
        groups: str | None = None,
        on_error: OnError = "stop",
        size: tuple[int, int] = (64, 64),
        larger: Larger = "refuse",
        axis: int = 2,
        orientation: Orientation = "stored",
        spacing_mm: tuple[float, float] | None = None,
        neighbours: int = 0,
        max_pixel: float = 0.2,
        window: tuple[float, float] | None = None,
        percentiles: tuple[float, float] | None = None,
        labels: list[str] | None = None,
        merge_labels: bool = True,
        ignore_label: str | None = None,
        case_weights: str | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 32,
        keep_empty: float = 1.0,
        augmentation: Recipe = "none",
        num_workers: int = 0,
        seed: int = 0,
        cache_dir: str | None = None,
        prepare_workers: int | None = None,
    ) -> None:
        """Check the options and read dataset.json."""
        super().__init__()
        # Not for the logger: a run has few and short parameters, its whole YAML is an artifact.
        self.save_hyperparameters(logger=False)
        check_fold(fold, folds)
        check_slicing(size, axis, spacing_mm)
        check_above_zero("max_pixel", max_pixel)
        check_numbers(
            batch_size=(batch_size, 1),
            eval_batch_size=(eval_batch_size, 1),
            num_workers=(num_workers, 0),
            neighbours=(neighbours, 0),
            prepare_workers=(1 if prepare_workers is None else prepare_workers, 1),
            seed=(seed, 0),
        )
        check_share("keep_empty", keep_empty)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.overlap = split == OVERLAP
        self.dealing = Dealing(fold, folds, split_seed, self.overlap, stratify)
        self.groups = None if groups is None else Path(groups).expanduser()
        self.on_error: OnError = on_error
        self.neighbours = neighbours
        self.keep_empty = float(keep_empty)
        self.augmentation: Recipe = augmentation
        self.prepare_workers = prepare_workers
        self.settings = StoreSettings(
            (size[0], size[1]),
            float(max_pixel),
            check_intensities(window, percentiles),
            axis,
            orientation,
            None if spacing_mm is None else (float(spacing_mm[0]), float(spacing_mm[1])),
            larger,
        )
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
        self.task = read_task(Path(root).expanduser(), task)
        self.classes = choose_classes(self.task, labels, merge=merge_labels, ignore=ignore_label)
        self.class_names = self.classes.names
        self.class_labels = self.classes.labels
        self.ignored = self.classes.ignored
        self.in_channels = len(self.task.channels) * (2 * neighbours + 1)
        self.case_weights = None if case_weights is None else Path(case_weights).expanduser()
        self._weights: dict[str, float] | None = None
        self._store: SliceStore | None = None
        self._split: Split | None = None

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the channels of an image are, such as ``MRI`` and ``MRI, frame -1``."""
        return tuple(
            f"{name}, frame {frame:+d}" if frame else name
            for frame in frame_offsets(self.neighbours)
            for name in self.task.channels
        )

    @property
    def store(self) -> SliceStore:
        """The prepared slices, built at the first use."""
        if self._store is None:
            self._store = open_store(
                self.task,
                self.settings,
                self.cache_dir,
                workers=self.prepare_workers,
                on_error=self.on_error,
                quiet=process_position()[0] > 0,
            )
        return self._store

    def prepare_data(self) -> None:
        """Build the slice store; Lightning calls this in one process a machine."""
        self._store = None
        _ = self.store

    def setup(self, stage: str) -> None:
        """Open the slice store and split the cases; to fit, read the weights of cases."""
        self.split_cases("train")
        if stage == "fit" and self.case_weights is not None:
            self._weights = read_case_weights(self.case_weights, self._names())
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
            groups = None if self.groups is None else read_case_groups(self.groups, self._names())
            self._split = self.dealing.split(self.store, self.classes.values, groups)
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
        settings: list[object] = [self.settings.facts(), self.class_names, self.class_labels]
        # What is not set is left out, and changes no fingerprint.
        if self.ignored is not None:
            settings.append(self.ignored)
        if self.neighbours:
            settings.append({"neighbours": self.neighbours})
        return {
            "data": data_fingerprint(self.store.records, settings),
            "split": split_fingerprint(split, self.split_cases(split), overlap=self.overlap),
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
            (case, largest_slice(self.store.records[case], self.classes.values))
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
        records = [self.store.records[case] for case in self.split_cases(split)]
        return class_areas(records, self.class_labels, ignored=self.ignored, padding=padding)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load the training slices, in an order of seed and epoch alone.

        The last batch is left out if it is smaller, unless it is the only one.
        """
        dataset = self._dataset("train")
        rank, world_size = process_position()
        areas, _ = self.class_areas("train", padding=False)
        sampler = ShuffledSampler(
            len(dataset),
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            window=_SHUFFLED_BYTES // self._slice_bytes(),
            empty=areas.sum(axis=1) == 0,
            keep_empty=self.keep_empty,
        )
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
        return self._dataset_of((case,))

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

    def _dataset(self, split: str) -> SliceDataset:
        cases = self.split_cases(split)
        if split != "train":
            return self._dataset_of(cases)
        augmentation = None
        if self.augmentation != "none":
            augmentation = Augmentation(
                self.augmentation, seed=self.seed, max_pixel=self.settings.max_pixel
            )
        return self._dataset_of(cases, weights=self._weights, augmentation=augmentation)

    def _dataset_of(
        self,
        cases: tuple[str, ...],
        *,
        weights: dict[str, float] | None = None,
        augmentation: Augmentation | None = None,
    ) -> SliceDataset:
        return SliceDataset(
            self.store,
            cases,
            self.class_labels,
            ignored=self.ignored,
            weights=weights,
            neighbours=self.neighbours,
            augmentation=augmentation,
        )

    def _names(self) -> list[str]:
        """Names that a table of cases may hold, those of cases that are left out among them."""
        return [*(one.name for one in self.task.cases), *(one.name for one in self.task.broken)]

    def _slice_bytes(self) -> int:
        """What a slice and its label take in the store."""
        return math.prod(self.settings.size) * (4 * len(self.task.channels) + 1)
