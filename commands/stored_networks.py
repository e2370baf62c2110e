"""Builds networks and data of runs again from their checkpoints."""

from argparse import ArgumentError
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from commands.checkpoints import CheckpointInfo, read_checkpoint
from commands.messages import parser_message
from datamodules.datamodule import DecathlonDataModule
from errors import InputError
from lightning_module.module import SegmentationModule
from lightning_module.stored_network import StoredNetwork
from tracking.reading import StoredRun
from tracking.store import runs_dir


@dataclass(frozen=True)
class LoadedNetwork:
    """A run's network with the weights of its last epoch, and the data it was made with.

    Attributes:
        run: The run.
        module: In evaluation mode, on the device asked for.
        data: Ready to give batches of its validation and test sets.
    """

    run: StoredRun
    module: SegmentationModule
    data: DecathlonDataModule


@dataclass(frozen=True)
class RestoredCheckpoint:
    """A checkpoint's network and the data it was made with.

    Attributes:
        path: Where it lies.
        run_id: Id of the run that wrote it; None if it was trained without a store.
        module: In evaluation mode, on the device asked for.
        data: Ready to give batches of its validation and test sets.
    """

    path: Path
    run_id: str | None
    module: SegmentationModule
    data: DecathlonDataModule


def load_network(run: StoredRun, device: torch.device, root: Path | None = None) -> LoadedNetwork:
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
            f"run {run.name} ({run.run_id[:8]}): its checkpoint {path} is missing; put it back, "
            "or delete the run"
        )
        raise InputError(msg)
    restored = load_checkpoint(path, device, root)
    return LoadedNetwork(run, restored.module, restored.data)


def load_checkpoint(
    path: Path, device: torch.device, root: Path | None = None
) -> RestoredCheckpoint:
    """Build a checkpoint's network and data again.

    Args:
        path: The checkpoint.
        device: Where the network goes.
        root: Folder of the tasks' folders, where it is not the one it was trained with.

    Returns:
        Both, and the run.

    Raises:
        InputError: If the checkpoint is missing or broken, or the data cannot be read.
    """
    info = read_checkpoint(path)
    data = _data(info, root)
    module = _module(info, data)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(stored)
    try:
        module.load_state_dict(stored["state_dict"])
    except (KeyError, RuntimeError) as error:
        msg = (
            f"{path}: found weights of another network than its settings give; put the code of "
            "the network and dataset.json back as they were in training"
        )
        raise InputError(msg) from error
    return RestoredCheckpoint(path, info.run_id, module.eval().to(device), data)


def find_device(name: str) -> torch.device:
    """A device of this machine.

    Args:
        name: ``auto``, or a name that torch knows.

    Raises:
        InputError: If this machine has it not.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        msg = f"--device: found {name}, which this machine has not; choose cpu, or leave it out"
        raise InputError(msg) from error
    return device


def find_checkpoint(run: str) -> Path:
    """The checkpoint of a run's last epoch.

    Args:
        run: Id of the run, or the first letters of it.

    Raises:
        InputError: If no run, or more than one, begins so.
    """
    folder = runs_dir() / "checkpoints"
    found = sorted(path for path in folder.glob("*/last.ckpt") if path.parent.name.startswith(run))
    if len(found) != 1 or not run:
        names = ", ".join(path.parent.name[:8] for path in found[:5]) or "none"
        msg = (
            f"--run: found {len(found)} checkpoints of runs that begin with {run!r} under {folder} "
            f"({names}), expected one; give more of the id, or --ckpt_path"
        )
        raise InputError(msg)
    return found[0]


def network_options(network: str) -> list[str]:
    """Options of Lightning's commands that make a network the one to be looked at.

    Args:
        network: A class as ``package.module.Class``, or a file that a network was stored in.
    """
    path = Path(network).expanduser()
    if path.suffix in {".pt", ".pt2", ".pth", ".ts"} or path.exists():
        kind = f"{StoredNetwork.__module__}.{StoredNetwork.__name__}"
        stored = ["--model.network", kind, "--model.network.init_args.path", str(path.absolute())]
        # Looked at now: the command line's parser would bury what is wrong with it.
        StoredNetwork(1, 1, str(path))
        return stored
    _check_class(network)
    return ["--model.network", network]


def _check_class(network: str) -> None:
    """Import a class, and tell in one line why that cannot be done."""
    module, _, name = network.rpartition(".")
    advice = "give package.module.Class, with its folder in PYTHONPATH, or an existing file"
    if not module:
        msg = f"--network: found {network}, expected a class or a file; {advice}"
        raise InputError(msg)
    try:
        found = getattr(import_module(module), name, None)
    except Exception as error:  # a user's module may fail in any way when it is run
        reason = " ".join(str(error).split())[:120]
        msg = f"--network {network}: its module cannot be imported ({reason}); {advice}"
        raise InputError(msg) from error
    if not callable(found):
        msg = f"--network {network}: found no class {name} in {module}; {advice}"
        raise InputError(msg)


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
