"""Runs on tilted volumes of an odd shape, and what their maps must be, slice by slice."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from lightning_module.unet import UNet
from robustness.attack import AttackBatch
from robustness.attribution import explain
from robustness.attribution_method import Attribution
from robustness.keyed_random import text_key
from robustness.objectives import Objective
from tests.places import Place, make_place, with_store

SHAPE = (15, 23, 5)
CASE = "blob_003"
ODD = "blob [b] 004"
FOLD = 1

Volume = NDArray[np.float32]


def plain_place(factory: pytest.TempPathFactory) -> Place:
    """One channel, one class, the house's network; made once, and its runs are only read."""
    return _fitted(factory, "plain", 1)


def hard_place(factory: pytest.TempPathFactory) -> Place:
    """Two channels, two classes, and a network that some methods refuse; made once."""
    network = ["--model.norm", "instance", "--model.activation", "prelu"]
    return _fitted(factory, "hard", 2, "--data.merge_labels", "false", *network)


def exclusive_place(factory: pytest.TempPathFactory) -> Place:
    """Two classes that exclude each other; made once."""
    network = ["--model.outputs", "softmax", "--model.loss", "ce"]
    return _fitted(factory, "exclusive", 1, "--data.merge_labels", "false", *network)


def checked_place(factory: pytest.TempPathFactory) -> Place:
    """A run whose gradients were checked on two validation slices; made once."""
    checks = ["--saliency.cases", "2", "--saliency.splits", "[val]"]
    return _fitted(factory, "checked", 1, *checks)


def affine() -> NDArray[np.float64]:
    """Turned in the plane and out of it, of other lengths along each axis."""
    turn, lean = 0.4, -0.2
    plane = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    out = np.array([[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]])
    matrix = np.eye(4)
    matrix[:3, :3] = plane @ out @ np.diag([0.8, 1.2, 3.1])
    matrix[:3, 3] = [-20.5, 31.25, 4.0]
    return matrix


def of_run(place: Place) -> list[str]:
    return ["--run", place.run_ids()[0][:9]]


def load(path: Path) -> Volume:
    return np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]


def facts_of(path: Path) -> dict[str, Any]:
    name = path.name.removesuffix(".nii.gz") + ".json"
    facts: dict[str, Any] = json.loads(path.with_name(name).read_text(encoding="utf-8"))
    return facts


def _network_of(place: Place, **settings: Any) -> nn.Module:  # noqa: ANN401
    """The network from the checkpoint's weights alone."""
    stored = torch.load(place.checkpoint(place.run_ids()[0]), weights_only=True)["state_dict"]
    network = UNet(**settings)
    network.load_state_dict(
        {
            name.removeprefix("network."): value
            for name, value in stored.items()
            if "network." in name
        }
    )
    return network.eval()


def plain_network(place: Place) -> nn.Module:
    return _network_of(place, in_channels=1, num_classes=1, channels=[4, 8, 8])


def hard_network(place: Place) -> nn.Module:
    return _network_of(
        place,
        in_channels=2,
        num_classes=2,
        channels=[4, 8, 8],
        norm="instance",
        activation="prelu",
    )


def one_slice(place: Place, network: nn.Module, case: str, frame: int) -> AttackBatch:
    """A slice as the protocol says, read and scaled here."""
    image = np.asarray(nibabel.load(place.task / f"imagesTr/{case}.nii.gz").dataobj)  # type: ignore[attr-defined]
    label = load(place.task / f"labelsTr/{case}.nii.gz")[..., frame]
    image = image.reshape(*SHAPE, -1).astype(np.float64)
    low, high = image.min(axis=(0, 1, 2)), image.max(axis=(0, 1, 2))
    scaled = 0.2 * (image[:, :, frame] - low) / (high - low)
    values = [1, 2] if scaled.shape[-1] > 1 else [(1, 2)]
    padded = np.zeros((scaled.shape[-1], 32, 32), np.float32)
    padded[:, : SHAPE[0], : SHAPE[1]] = np.moveaxis(scaled, -1, 0)
    mask = np.zeros((len(values), 32, 32), np.float32)
    mask[:, : SHAPE[0], : SHAPE[1]] = [np.isin(label, value) for value in values]
    valid = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    valid[:, :, : SHAPE[0], : SHAPE[1]] = True
    return AttackBatch(
        network,
        torch.from_numpy(padded)[None],
        torch.from_numpy(mask)[None],
        valid,
        torch.tensor([text_key(case)]),
        torch.tensor([frame]),
        torch.ones_like(valid),
    )


def expected_slice(
    batch: AttackBatch, network: nn.Module, method: Attribution, objective: Objective, seed: int = 0
) -> Volume:
    """The map of one slice without its padding, ``(X, Y, C)``."""
    found = explain(method, network, batch, objective, seed)[0, :, : SHAPE[0], : SHAPE[1]]
    return np.moveaxis(found.numpy(), 0, -1)


def check(volume: Volume, frame: int, expected: Volume, rounding: float = 0.0) -> None:
    """Equal up to the rounding of a slice that went through the network with others."""
    found = volume.reshape(*SHAPE, -1)[:, :, frame]
    atol = rounding + 1e-4 * float(np.abs(volume).max())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=atol)


def _fitted(factory: pytest.TempPathFactory, name: str, channels: int, *options: str) -> Place:
    place = Place(factory.getbasetemp() / f"tilted_{name}")
    if place.folder.exists():
        return place
    with_store(make_place(place.folder), factory)
    _tilt_task(place.task, channels=channels)
    settings = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    settings["robustness"]["splits"] = settings["saliency"]["splits"] = []
    place.config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    given = ["--config", str(place.config), "--data.fold", str(FOLD), *options]
    assert place.run("fit", *given, "--trainer.max_epochs", "1") == 0
    return place


def _tilt_task(folder: Path, *, channels: int) -> None:
    """Cut every volume of a task to an odd shape, turn it, and give one case an odd name."""
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for entry in content["training"]:
        for part in ("image", "label"):
            path = folder / entry[part]
            voxels = np.asarray(nibabel.load(path).dataobj)[: SHAPE[0], : SHAPE[1]]  # type: ignore[attr-defined]
            if part == "image" and channels > 1:
                voxels = np.stack([voxels, np.sqrt(np.abs(voxels))], axis=-1)
            image = nibabel.Nifti1Image(voxels, affine())  # type: ignore[no-untyped-call]
            image.set_qform(affine(), code=1)  # type: ignore[no-untyped-call]
            image.header.set_xyzt_units("mm", "sec")  # type: ignore[no-untyped-call]
            path.unlink()
            entry[part] = entry[part].replace("blob_004", ODD)
            nibabel.save(image, folder / entry[part])
    content["modality"] = {str(channel): f"MRI {channel}" for channel in range(channels)}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
