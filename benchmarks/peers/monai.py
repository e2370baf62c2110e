"""MONAI's saliency and its cached loader against ours."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data.dataset import CacheDataset
from monai.transforms.utility.dictionary import EnsureTyped
from monai.visualize.gradient_based import SmoothGrad as MonaiSmoothGrad
from monai.visualize.gradient_based import VanillaGrad
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.data import Slices, slices
from benchmarks.peers.compare import Given, Summed, against, given
from benchmarks.timing import Ratio, write_results
from robustness.attribution_gradients import Gradient, SmoothGrad


def one_by_one(method: Callable[..., Tensor], image: Tensor) -> Tensor:
    """Maps of a batch by a method of MONAI, which takes one image at a time."""
    return torch.cat([method(one[None].clone(), index=0) for one in image])


def cached(items: Sequence[dict[str, Any]], size: int, *, plain: bool) -> DataLoader[Any]:
    """Slices held in memory by a ``CacheDataset``, shuffled.

    Args:
        items: A dictionary for each slice.
        size: Slices in a batch.
        plain: Whether batches are plain tensors; else ``MetaTensor``, MONAI's own.
    """
    ensure = EnsureTyped(["image", "mask"], track_meta=not plain)
    dataset = CacheDataset(items, ensure, progress=False)
    return DataLoader(dataset, batch_size=size, shuffle=True, drop_last=True)


def measure(source: Slices, *, number: int = 32, rounds: int = 5, samples: int = 5) -> list[Ratio]:
    """Time maps and an epoch of loading.

    Args:
        source: Where the slices come from.
        number: How many slices are explained.
        rounds: Rounds that count.
        samples: Noisy copies of each slice.
    """
    on = given(source, number)
    return [*_maps(on, samples, rounds), *_loaders(source, rounds)]


def _maps(on: Given, samples: int, rounds: int) -> list[Ratio]:
    gradient = VanillaGrad(Summed(on.network))
    smooth = MonaiSmoothGrad(
        Summed(on.network), 0.1, n_samples=samples, magnitude=False, verbose=False
    )
    pairs = {
        "gradient of the sum of probabilities: monai.visualize.VanillaGrad": (
            gradient,
            Gradient(),
        ),
        f"SmoothGrad, {samples} samples: monai.visualize.SmoothGrad": (
            smooth,
            SmoothGrad(samples=samples, sigma=0.1, valid_only=False),
        ),
    }
    return [
        against(
            name,
            lambda theirs=theirs: [one_by_one(theirs, image) for image, _ in on.parts()],  # type: ignore[misc]
            lambda ours=ours: on.maps(ours),  # type: ignore[misc]
            slices=on.slices,
            rounds=rounds,
        )
        for name, (theirs, ours) in pairs.items()
    ]


def _loaders(source: Slices, rounds: int) -> list[Ratio]:
    own = source.data.train_dataloader()
    size = source.data.batch_size
    batch: dict[str, Any] = dict(source.batch("train"))
    items = [
        {name: values[at] for name, values in batch.items()} for at in range(len(batch["case"]))
    ]
    kinds = {"MetaTensor, its default": False, "plain tensors": True}
    rows = []
    for kind, plain in kinds.items():
        theirs = cached(items, size, plain=plain)
        rows.append(
            against(
                f"an epoch of batches of {size}, shuffled, in the training's process: "
                f"monai CacheDataset and DataLoader ({kind})",
                lambda theirs=theirs: _through(theirs),  # type: ignore[misc]
                lambda: _through(own),
                slices=len(own) * size,
                rounds=rounds,
            )
        )
    return rows


def _through(loader: DataLoader[Any]) -> float:
    return sum(float(batch["image"][0, 0, 0, 0]) for batch in loader)


if __name__ == "__main__":
    with slices() as prepared:
        print(write_results(f"Peers: MONAI, on {prepared.name}", measure(prepared)))
