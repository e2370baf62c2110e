"""Slices as a dataset that hands over whole batches, read from the store's memory maps at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.augmentation import Augmentation
from datamodules.batch import Batch
from datamodules.store import SliceStore


class SliceDataset(Dataset[Batch]):
    """All slices of some cases, in order of case and depth.

    Args:
        store: Where the slices are.
        cases: Names of the cases.
        classes: For each channel of the mask the labels that it marks.
        ignored: Label whose pixels are not to be counted.
        weights: Weight of each case, 1 where it is not named; None gives batches no weights.
        neighbours: How many frames on each side become further channels.
        augmentation: What varies a slice by epoch; None leaves it as it is.
    """

    def __init__(
        self,
        store: SliceStore,
        cases: Sequence[str],
        classes: Sequence[Sequence[int]],
        *,
        ignored: int | None = None,
        weights: Mapping[str, float] | None = None,
        neighbours: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        """List the slices of the cases."""
        self.store = store
        self.cases = tuple(cases)
        self.classes = tuple(tuple(values) for values in classes)
        self.ignored = ignored
        self.weights = weights
        self.augmentation = augmentation
        self._offsets = frame_offsets(neighbours)
        records = [store.records[case] for case in self.cases]
        counts = [record.slices for record in records]
        self._case_of = np.repeat(np.arange(len(counts)), counts)
        self._slice_of = np.concatenate([np.arange(count) for count in counts])
        self._shapes = np.concatenate([record.grid.slice_shapes for record in records])

    def __len__(self) -> int:
        """Count the slices of all cases."""
        return len(self._case_of)

    def __getitem__(self, index: int) -> Batch:
        """Read one slice as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Read a batch; the data loader calls this with the indices that the sampler chose.

        Args:
            indices: ``epoch * len(self) + index`` of each slice.
        """
        epochs, places = np.divmod(np.asarray(indices), len(self))
        positions, frames = self._case_of[places], self._slice_of[places]
        names = [self.cases[position] for position in positions]
        image = np.stack([self._image(*one) for one in zip(names, frames, strict=True)])
        label = np.stack(
            [self.store.arrays(name)[1][frame] for name, frame in zip(names, frames, strict=True)]
        )
        height, width = self._shapes[places].T[..., np.newaxis, np.newaxis]
        valid = np.arange(image.shape[2])[:, np.newaxis] < height
        valid = valid & (np.arange(image.shape[3]) < width)
        if self.augmentation is not None:
            for at, (epoch, place) in enumerate(zip(epochs.tolist(), places.tolist(), strict=True)):
                image[at], label[at], valid[at] = self.augmentation(
                    image[at], label[at], valid[at], epoch=epoch, index=place
                )
        batch = Batch(
            image=torch.from_numpy(image),
            mask=torch.from_numpy(self._mask(label)),
            valid=torch.from_numpy(valid[:, np.newaxis]),
            case=names,
            slice_index=torch.from_numpy(frames),
        )
        if self.ignored is not None:
            batch["ignored"] = torch.from_numpy(label[:, np.newaxis] == self.ignored)
        if self.weights is not None:
            batch["sample_weight"] = torch.tensor([self.weights.get(name, 1.0) for name in names])
        return batch

    def _image(self, case: str, index: int) -> NDArray[np.float32]:
        """A slice and its neighbours; beyond the ends of a volume its last frame comes again."""
        images, _ = self.store.arrays(case)
        if len(self._offsets) == 1:
            alone: NDArray[np.float32] = images[index]
            return alone
        grid = self.store.records[case].grid
        frame, tile = divmod(index, len(grid.windows))
        frames = np.clip(np.add(self._offsets, frame), 0, grid.depth - 1)
        return np.concatenate([images[one * len(grid.windows) + tile] for one in frames])

    def _mask(self, label: NDArray[np.uint8]) -> NDArray[np.float32]:
        mask = np.empty((len(label), len(self.classes), *label.shape[1:]), dtype=np.float32)
        for channel, values in enumerate(self.classes):
            marked = label == values[0]
            for value in values[1:]:
                marked |= label == value
            mask[:, channel] = marked
        return mask


def frame_offsets(neighbours: int) -> list[int]:
    """The frames that are channels of a slice, counted from its own.

    The slice itself comes first: channel 0 is the same picture with and without neighbours.

    Args:
        neighbours: How many there are on each side.
    """
    return [0, *(side * step for step in range(1, neighbours + 1) for side in (-1, 1))]


def keep_batch(batch: Any) -> Any:  # noqa: ANN401 - the loader's type for it expects a list
    """Collate nothing: the dataset hands over whole batches."""
    return batch
