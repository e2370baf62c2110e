"""A plain LightningModule and slices in memory: callbacks know no other part of the house."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from robustness.pixel_attacks import CountAttack, LevelAttack
from tracking.logger import RunLogger

SIDE = 16
ATTACKS = (
    LevelAttack(name="top5_beyond_range", levels=(0.0, 0.4, 1.0)),
    CountAttack(name="topn_random", counts=(2, 8), repeats=2),
)


class ToyModule(LightningModule):
    """Two convolutions with batch norm and dropout, so that modes and random numbers matter."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        # The same weights in every test, and no draw from the generator that training uses.
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.network = nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Dropout2d(0.25),
                nn.Conv2d(4, classes, 3, padding=1),
            )
        self.dtypes: set[torch.dtype] = set()

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)
        self.dtypes.add(logits.dtype)
        return logits

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        logits = self(batch["image"])
        return nn.functional.binary_cross_entropy_with_logits(logits.float(), batch["mask"])

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        score = self(batch["image"]).mean()
        self.log("val/dice", score, logger=False, batch_size=len(batch["image"]))

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self(batch["image"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def slices(cases: Sequence[str], *, each: int = 4, classes: int = 1) -> list[dict[str, Any]]:
    """Slices with a bright square, which moves from slice to slice."""
    generator = torch.Generator().manual_seed(len(cases))
    found = []
    for case in cases:
        for index in range(each):
            mask = torch.zeros(classes, SIDE, SIDE)
            mask[index % classes, 2 + index : 8 + index, 4:10] = 1
            noise = torch.rand(1, SIDE, SIDE, generator=generator)
            image = 0.1 * mask.amax(0, keepdim=True) + 0.1 * noise
            found.append(
                {
                    "image": image,
                    "mask": mask,
                    "valid": torch.ones(1, SIDE, SIDE, dtype=torch.bool),
                    "case": case,
                    "slice_index": index,
                }
            )
    return found


def loader(
    samples: list[dict[str, Any]], *, shuffle: bool = False, batch_size: int = 8
) -> DataLoader[Any]:
    return DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=batch_size,
        shuffle=shuffle,
        collate_fn=_collate,
    )


def train_loader(*, classes: int = 1) -> DataLoader[Any]:
    """Shuffled by torch's global generator: what draws from it elsewhere changes the training."""
    return loader(slices([f"t{index}" for index in range(6)], classes=classes), shuffle=True)


def val_loader(*, classes: int = 1) -> DataLoader[Any]:
    return loader(slices(["v0", "v1", "v2"], classes=classes))


def trainer(
    *callbacks: Callback,
    logger: RunLogger | None = None,
    epochs: int = 2,
    **settings: Any,  # noqa: ANN401 (the trainer's own)
) -> Trainer:
    """A trainer on one CPU that prints, warns and writes nothing by itself."""
    return Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": epochs,
            "callbacks": list(callbacks),
            "logger": logger if logger is not None else False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            **settings,
        }
    )


def _collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    tensors = {
        name: torch.stack([sample[name] for sample in samples])
        for name in ("image", "mask", "valid")
    }
    return {
        **tensors,
        "case": [sample["case"] for sample in samples],
        "slice_index": torch.tensor([sample["slice_index"] for sample in samples]),
    }
