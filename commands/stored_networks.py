"""Builds networks and data of runs again from their checkpoints."""

from argparse import ArgumentError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from commands.checkpoints import CheckpointInfo, read_checkpoint
from commands.messages import parser_message
from datamodules.datamodule import DecathlonDataModule
from errors import InputError
from lightning_module.module import SegmentationModule
from tracking.reading import StoredRun
from tracking.store import runs_dir


@dataclass(frozen=True)
class StoredNetwork:
    """A run's network with the weights of its last epoch, and the data it was made with.

    Attributes:
        run: The run.
        module: In evaluation mode, on the device asked for.
        data: Ready to give batches of its validation and test sets.
    """

    run: StoredRun
    module: SegmentationModule
    data: DecathlonDataModule


def load_network(run: StoredRun, device: torch.device, root: Path | None = None) -> StoredNetwork:
    """Build a run's network and data again.

    Args:
        run: The run.
        device: Where the network goes.
        root: Folder of the tasks' folders, where it is not the one it was trained with.

    Returns:
        The network.

    Raises:
        InputError: If the checkpoint is missing or broken, or the data cannot be read.
    """
    path = runs_dir() / "checkpoints" / run.run_id / "last.ckpt"
    if not path.is_file():
        msg = (
            f"run {run.name} ({run.run_id[:8]}): its checkpoint {path} is missing; train it again, "
            "or leave it out with --runs"
        )
        raise InputError(msg)
    info = read_checkpoint(path)
    data = _data(info, root)
    module = _module(info, data)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(stored)
    module.load_state_dict(stored["state_dict"])
    return StoredNetwork(run, module.eval().to(device), data)


def _data(info: CheckpointInfo, root: Path | None) -> DecathlonDataModule:
    settings = dict(info.settings["data"])
    # Weights of cases are for training alone, and their table may be gone.
    settings["case_weights"] = None
    if root is not None:
        settings["root"] = str(root)
    settings.setdefault("seed", 0)
    data: DecathlonDataModule = _built(DecathlonDataModule, settings)
    data.prepare_data()
    data.setup("test")
    return data


def _module(info: CheckpointInfo, data: DecathlonDataModule) -> SegmentationModule:
    linked = {"class_names": list(data.class_names), "in_channels": data.in_channels}
    module: SegmentationModule = _built(SegmentationModule, {**info.settings["model"], **linked})
    return module


def _built(kind: type, settings: dict[str, Any]) -> Any:  # noqa: ANN401 (an object of the kind)
    """An object from the settings that the command line would have given it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "it")
    known = {action.dest.removeprefix("it.") for action in parser._actions}
    try:
        chosen = parser.parse_object(
            {"it": {name: value for name, value in settings.items() if name in known}}
        )
        return parser.instantiate_classes(chosen)["it"]
    except (ArgumentError, ValueError, TypeError) as error:
        raise InputError(parser_message(str(error))) from error
