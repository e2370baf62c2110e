"""Before anything is trained or scored, one line says what."""

from typing import Any

import pytest
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from callbacks.opening import Opening
from tests.callbacks.toy import ToyModule, loader, slices, train_loader, trainer, val_loader


class Data(LightningDataModule):
    """Three splits of known sizes."""

    def split_cases(self, split: str) -> tuple[str, ...]:
        return tuple("abcdef"[: {"train": 6, "val": 3, "test": 2}[split]])

    def train_dataloader(self) -> DataLoader[Any]:
        return train_loader()

    def val_dataloader(self) -> DataLoader[Any]:
        return val_loader()

    def test_dataloader(self) -> DataLoader[Any]:
        return loader(slices(["e", "f"]))


@pytest.mark.parametrize(
    ("command", "expected", "others"),
    [
        ("fit", ["6 train", "3 val", "2 test"], []),
        ("validate", ["3 val"], ["train", "test"]),
        ("test", ["2 test"], ["train", "val"]),
    ],
)
def test_the_cases_and_the_network_are_said_once(
    command: str, expected: list[str], others: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    module = ToyModule()
    runner = trainer(Opening(), epochs=2)
    settings = {} if command == "fit" else {"verbose": False}
    getattr(runner, command)(module, datamodule=Data(), **settings)
    (line,) = capsys.readouterr().out.splitlines()
    parameters = sum(one.numel() for one in module.parameters())
    assert all(word in line for word in [*expected, f"{parameters:,} parameters", "cpu"])
    assert not any(word in line for word in others)


def test_data_that_names_no_cases_is_no_hindrance(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(Opening(), epochs=1).fit(ToyModule(), train_loader(), val_loader())
    (line,) = capsys.readouterr().out.splitlines()
    assert "parameters" in line
    assert "cases" not in line
