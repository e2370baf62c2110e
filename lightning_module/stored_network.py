"""A network from a file that somebody else's training has written."""

import warnings
from pathlib import Path
from typing import Self
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from errors import InputError

EXPORTED = ".pt2"


class StoredNetwork(nn.Module):
    """A TorchScript file, or an exported program (``.pt2``), as a network.

    Load only what you trust: TorchScript is code. The program must take a batch of any size and
    give logits, not probabilities, at the resolution of the image.

    Args:
        in_channels: Channels of the image; what the program takes shows at its first call.
        num_classes: Classes; likewise.
        path: The file.

    Raises:
        InputError: If the file is missing or holds neither.
    """

    def __init__(self, in_channels: int, num_classes: int, path: str) -> None:
        super().__init__()
        self.path = path
        self.program = _load(Path(path))

    def train(self, mode: bool = True) -> Self:
        """Nothing: a program has the mode it was written in, and an exported one refuses others."""
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch.

        Args:
            image: Shape ``(B, C, H, W)``.

        Returns:
            Shape ``(B, K, H, W)``.

        Raises:
            InputError: If the program takes no such images.
        """
        try:
            logits: Tensor = self.program(image)
        except (RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            msg = (
                f"--network {self.path}: found a program that takes no images of shape "
                f"{tuple(image.shape)} ({reason}); export it with a batch of any size, or set "
                "--data.size"
            )
            raise InputError(msg) from error
        return logits


def _load(path: Path) -> nn.Module:
    if not path.is_file():
        msg = f"--network: {path} is not a file; give a TorchScript file or an exported program"
        raise InputError(msg)
    try:
        if path.suffix == EXPORTED:
            return torch.export.load(path).module()
        with warnings.catch_warnings():
            # torch deprecates TorchScript; the files that exist are still read.
            warnings.simplefilter("ignore", DeprecationWarning)
            if not is_zipfile(path):
                msg = "no archive"
                raise ValueError(msg)
            program: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            return program
    except Exception as error:  # torch raises errors of many kinds on files that are none of its
        reason = " ".join(str(error).split())[:120]
        msg = (
            f"--network: {path} is neither a TorchScript file nor an exported program "
            f"({reason}); give one that torch.jit.save or torch.export.save wrote, the latter "
            f"with the ending {EXPORTED}"
        )
        raise InputError(msg) from error
