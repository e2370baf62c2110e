"""The 2D U-Net that all losses are compared on."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from errors import InputError

Norm = Literal["batch", "instance"]
Activation = Literal["relu", "prelu"]

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": partial(nn.InstanceNorm2d, affine=True),
}
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "prelu": nn.PReLU}


class UNet(nn.Module):
    """Encoder and decoder of two convolutions a level, joined by concatenation; ends in logits.

    Every activation is a module of its own and not in place: attribution methods hook each of them.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        channels: Channels of each level, from full resolution down.
        norm: ``batch``, or ``instance`` (lets a few pixels shift the statistics of a whole slice).
        activation: ``relu``, or ``prelu`` (defeats guided backpropagation and DeepLIFT).
        outputs: How many outputs there are in training, each of half the resolution of the one
            before; more than one is deep supervision. Evaluation gives the first alone.

    Raises:
        InputError: If there are no levels, or a number of channels or a name is wrong.

    References:
        Ronneberger et al., U-Net, MICCAI 2015; padded convolutions and normalisation added.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int] = (16, 32, 64, 128),
        norm: Norm = "batch",
        activation: Activation = "relu",
        outputs: int = 1,
    ) -> None:
        super().__init__()
        _check_settings(in_channels, num_classes, channels, norm, activation)
        if not 1 <= outputs <= len(channels):
            msg = (
                f"--model.output_weights: found {outputs}, expected 1 to {len(channels)}, one for "
                "each level that gives an output; correct the list"
            )
            raise InputError(msg)
        self.in_channels = in_channels
        self.stride = 2 ** (len(channels) - 1)

        def block(inputs: int, outputs: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for source in (inputs, outputs):
                # The norm subtracts the mean, so a bias here would do nothing.
                layers.append(nn.Conv2d(source, outputs, kernel_size=3, padding=1, bias=False))
                layers.extend((_NORMS[norm](outputs), _ACTIVATIONS[activation]()))
            return nn.Sequential(*layers)

        self.encoder = nn.ModuleList(
            block(fine, coarse) for fine, coarse in pairwise((in_channels, *channels))
        )
        self.pool = nn.MaxPool2d(2)
        upwards = tuple(reversed(channels))
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2)
            for coarse, fine in pairwise(upwards)
        )
        self.decoder = nn.ModuleList(block(2 * fine, fine) for fine in upwards[1:])
        self.head = nn.Conv2d(channels[0], num_classes, kernel_size=1)
        self.deep_heads = nn.ModuleList(
            nn.Conv2d(width, num_classes, kernel_size=1) for width in channels[1:outputs]
        )

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits of an image.

        Args:
            image: Shape ``(B, C, H, W)``, H and W multiples of ``stride``.

        Returns:
            Logits, shape ``(B, K, H, W)``; in training under deep supervision those of each output,
            of shapes ``(B, K, H, W)``, ``(B, K, H / 2, W / 2)``, ...

        Raises:
            InputError: If the number of channels is another, or H or W no multiple of ``stride``.
        """
        self._check_image(image)
        features = image
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            features = block(self.pool(features) if level else features)
            skips.append(features)
        decoded = [features]
        for upsample, block, skip in zip(
            self.upsample, self.decoder, reversed(skips[:-1]), strict=True
        ):
            features = block(torch.cat([skip, upsample(features)], dim=1))
            decoded.append(features)
        logits: Tensor = self.head(features)
        if not (self.training and self.deep_heads):
            return logits
        coarser = reversed(decoded[:-1])
        return [
            logits,
            *(head(level) for head, level in zip(self.deep_heads, coarser, strict=False)),
        ]

    def _check_image(self, image: Tensor) -> None:
        _, channels, height, width = image.shape
        if channels != self.in_channels:
            msg = (
                f"image: found {channels} channels, expected {self.in_channels}; "
                "set --model.in_channels to what the data has"
            )
            raise InputError(msg)
        if height % self.stride or width % self.stride:
            msg = (
                f"image: found {height} x {width} pixels, expected multiples of {self.stride} "
                f"for {len(self.encoder)} levels; change --data.size or --model.channels"
            )
            raise InputError(msg)


def _check_settings(
    in_channels: int, num_classes: int, channels: Sequence[int], norm: str, activation: str
) -> None:
    """Raise InputError on a setting no network can be built from."""
    if not channels or min(in_channels, num_classes, *channels) < 1:
        msg = (
            f"network: found {in_channels} input channels, {num_classes} classes and levels "
            f"{list(channels)}, expected a level or more and numbers above 0; "
            "change --model.channels"
        )
        raise InputError(msg)
    for setting, found, options in (
        ("norm", norm, _NORMS),
        ("activation", activation, _ACTIVATIONS),
    ):
        if found not in options:
            listed = ", ".join(options)
            msg = (
                f"--model.{setting}: found {found!r}, expected one of {listed}; choose one of them"
            )
            raise InputError(msg)
