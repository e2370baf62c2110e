"""``main.py attack --network`` attacks networks that were trained elsewhere, whatever they are."""

import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tests.places import Place, make_place
from tracking.reading import fetch_counts


class Bright(nn.Module):
    """What is bright is found; nothing is learnt. It is not of this project's making."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(in_channels, num_classes, 3, padding=1, bias=False)
        nn.init.constant_(self.head.weight, 5.0)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(image) - 4
        return logits


class Half(Bright):
    """Gives logits at half of the image's resolution."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image)[..., ::2, ::2]


def options_of(place: Place) -> list[str]:
    """Few attacks on the tiny task."""
    return ["--config", str(place.config)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as TorchScript, as an exported program, and what is neither."""
    folder = tmp_path_factory.mktemp("networks")
    network = Bright(1, 1).eval()
    image = torch.rand(4, 1, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(network, image), folder / "bright.pt")  # type: ignore[no-untyped-call]
    size = {0: torch.export.Dim("batch", min=1, max=512)}
    torch.export.save(
        torch.export.export(network, (image,), dynamic_shapes=(size,)), folder / "bright.pt2"
    )
    torch.export.save(torch.export.export(network, (image,)), folder / "fixed.pt2")
    (folder / "text.pt").write_text("no network")
    (folder / "text.pt2").write_text("no network")
    return {path.name: path for path in folder.iterdir()}


def test_networks_of_other_makes_are_attacked_alike(place: Place, files: dict[str, Path]) -> None:
    """A class, a TorchScript file and an exported program of one network have the same counts."""
    write = make_place(place.folder)
    kinds = {
        f"{__name__}.Bright": "Bright",
        str(files["bright.pt"]): "bright.pt",
        str(files["bright.pt2"]): "bright.pt2",
    }
    for network in kinds:
        assert place.run("attack", "--network", network, *options_of(write)) == 0
    assert set(place.runs_by_loss()) == set(kinds.values())
    frames = []
    for name, run in place.runs_by_loss().items():
        with place.environment():
            counts = fetch_counts(run, "test")
        assert counts is not None
        assert run.name == f"{name} seed 0"
        assert run.status == "FINISHED"
        frames.append(counts.frame)
    assert (frames[0]["tp"] > 0).any()
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0])


def test_the_loss_that_a_network_was_trained_with_can_be_told(place: Place) -> None:
    options = options_of(make_place(place.folder))
    network = ["--network", f"{__name__}.Bright", "--trained_with", "bce", "--split", "val"]
    assert place.run("attack", *network, *options) == 0
    assert list(place.runs_by_loss()) == ["bce"]
    with place.environment():
        assert fetch_counts(place.runs_by_loss()["bce"], "val") is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.pt", ["text.pt", "neither a TorchScript file nor"]),
        ("text.pt2", ["text.pt2", "neither a TorchScript file nor"]),
        ("fixed.pt2", ["fixed.pt2", "takes no images of shape", "batch of any size"]),
    ],
)
def test_a_file_that_cannot_be_attacked_is_named(
    name: str,
    words: list[str],
    place: Place,
    files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = options_of(make_place(place.folder))
    assert place.run("attack", "--network", str(files[name]), *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("Bright", ["found Bright", "package.module.Class"]),
        ("nowhere.Bright", ["nowhere.Bright", "No module named 'nowhere'", "PYTHONPATH"]),
        (f"{__name__}.Brighter", [f"no class Brighter in {__name__}"]),
        (f"{__name__}.Half", ["Half", "(16, 1, 16, 16)", "expected (16, 1, 32, 32)"]),
    ],
)
def test_a_class_that_cannot_be_attacked_is_named(
    network: str, words: list[str], place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    options = options_of(make_place(place.folder))
    assert place.run("attack", "--network", network, *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert all(word in error for word in words), error
