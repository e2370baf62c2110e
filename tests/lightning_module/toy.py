"""A small task in memory, and a quiet trainer and a logger that remembers to learn it with."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_module.module import Batch, SegmentationModule

SIZE = 16


class Discs(Dataset[dict[str, Any]]):
    """Noisy slices with a bright disc or none, four to a case; three columns are padding."""

    def __init__(self, slices: int = 24, classes: int = 1, channels: int = 1) -> None:
        random = torch.Generator().manual_seed(slices + classes)
        rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        centre = torch.randint(4, 10, (slices, classes, 2, 1, 1), generator=random)
        away = (rows - centre[:, :, 0]) ** 2 + (columns - centre[:, :, 1]) ** 2
        self.mask = (away < 10).float()
        self.mask[::4] = 0
        noise = 0.1 * torch.rand(slices, channels, SIZE, SIZE, generator=random)
        self.image = noise + self.mask.amax(1, keepdim=True)
        self.valid = torch.ones(slices, 1, SIZE, SIZE, dtype=torch.bool)
        for tensor in (self.mask, self.image, self.valid):
            tensor[..., -3:] = 0

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "image": self.image[index],
            "mask": self.mask[index],
            "valid": self.valid[index],
            "case": f"case_{index // 4}",
            "slice_index": index % 4,
        }

    def batch(self, size: int | None = None) -> Batch:
        """The first slices as one batch."""
        loader: DataLoader[Any] = DataLoader(self, batch_size=size or len(self))
        batch: Batch = next(iter(loader))
        return batch


class KeyedByEpoch(Sampler[int]):
    """An order that depends on the epoch alone: a resumed run sees what another one sees."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = torch.Generator().manual_seed(self.epoch)
        return iter(torch.randperm(self.length, generator=random).tolist())

    def __len__(self) -> int:
        return self.length


class DiscData(LightningDataModule):
    """Discs for all stages; of several processes each evaluates every n-th slice.

    Discs of two classes overlap; of two that are apart the first covers the second.
    """

    def __init__(self, classes: int = 1, eval_batch_size: int = 5, *, apart: bool = False) -> None:
        super().__init__()
        self.train_set, self.eval_set = Discs(24, classes), Discs(13, classes)
        for discs in (self.train_set, self.eval_set):
            if apart:
                discs.mask[:, 1:] *= 1 - discs.mask[:, :1]
        self.eval_batch_size = eval_batch_size
        self.class_names = tuple(f"Part {index}" for index in range(classes))

    def train_dataloader(self) -> DataLoader[Any]:
        sampler = KeyedByEpoch(len(self.train_set))
        return DataLoader(self.train_set, batch_size=8, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        rank, ranks = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        own = range(rank, len(self.eval_set), ranks)
        return DataLoader(self.eval_set, batch_size=self.eval_batch_size, sampler=own)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.val_dataloader()


class RememberingLogger(Logger):
    """Keeps what it is given, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> str:
        return "0"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.records.append((step, dict(metrics)))

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object
    ) -> None:
        """Not looked at."""

    def last(self, key: str) -> float:
        """The value that a metric had last."""
        return [metrics[key] for _, metrics in self.records if key in metrics][-1]


def small_module(
    loss: str = "bce+batch_dice",
    **settings: Any,  # noqa: ANN401 - the module's own settings
) -> SegmentationModule:
    """A network of two levels, the same weights every time."""
    torch.manual_seed(0)
    return SegmentationModule(loss, channels=(4, 8), **settings)


def random_case(
    samples: int = 3, classes: int = 2, size: int = 5, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, target and valid of random numbers in float64; some pixels are padding."""
    random = torch.Generator().manual_seed(seed)
    shape = (samples, classes, size, size)
    logits = 3 * torch.randn(shape, generator=random, dtype=torch.float64)
    target = (torch.rand(shape, generator=random, dtype=torch.float64) > 0.6).double()
    valid = torch.rand((samples, 1, size, size), generator=random) > 0.2
    return logits, target, valid


def make_trainer(
    folder: Path,
    logger: RememberingLogger | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: object,
) -> Trainer:
    """A quiet trainer of three epochs."""
    options: dict[str, Any] = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "logger": logger or False,
        "default_root_dir": folder,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        "callbacks": list(callbacks),
        "num_sanity_val_steps": 1,
        **settings,
    }
    return Trainer(**options)


class SaveEachEpoch(Checkpoint):
    """Writes ``last.ckpt`` when the hooks of an epoch are through."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.path)
