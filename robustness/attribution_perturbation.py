"""Attribution by forward passes alone: occlusion, and a local surrogate on superpixels (LIME)."""

from dataclasses import dataclass
from math import ceil, inf, isfinite, prod, sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch, Passes
from robustness.attribution_method import OBJECTIVE, Attribution, baseline_image
from robustness.objectives import Objective
from robustness.superpixels import grid_cells, slic

# Of the superpixels, in each sample of LIME.
SHARE_ON = 0.5
# Of a slice, along each side.
_SQUARES = 8
_SMALLEST_SIDE = 4


@dataclass(frozen=True)
class Occlusion(Attribution):
    """The fall of the objective when a window is blanked, in units of the objective.

    Each pixel gets the mean of F(x) - F(x without window) over the windows that cover it. A window
    covers all channels, so that the map is the same for each of them. Windows start at every
    multiple of the stride until the image is covered; the last ones are cut at its border.

    Args:
        window: Side, in pixels; 0 is an eighth of the slice's side, see :func:`default_side`, so
            that there are about as many windows whatever its size.
        stride: From window to window, in pixels; 0 is half the window.
        baseline: Intensity that the window is blanked with; 0 is that of the padding.
        valid_only: Whether padding is left as it is.

    References:
        Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014,
        section 4.2.
    """

    name: ClassVar[str] = "occlusion"
    unit: ClassVar[str] = OBJECTIVE
    window: int = 0
    stride: int = 0
    baseline: float = 0.0
    valid_only: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        self.check_at_least("window", self.window, 0)
        self.check_at_least("stride", self.stride, 0)
        if self.window and self.stride > self.window:
            self.refuse("stride", self.stride, f"at most the window, {self.window}")
        if not isfinite(self.baseline):
            self.refuse("baseline", self.baseline, "a finite intensity")

    def passes(self, height: int, width: int) -> Passes:
        """A forward pass at the image and one for each window."""
        window, stride = self._sides(height, width)
        windows = prod(len(_starts(side, window, stride)) for side in (height, width))
        return Passes(1 + windows, 0)

    def attribute(
        self, network: nn.Module, batch: AttackBatch, objective: Objective, seed: int
    ) -> Tensor:
        """Mean fall, shape ``(B, C, H, W)``, the same for each channel.

        Raises:
            ValueError: If the window is larger than the image, or the stride than the window.
        """
        height, width = batch.image.shape[2:]
        window, stride = self._sides(height, width)
        if window > min(height, width):
            self.refuse("window", window, f"at most the image's side, {min(height, width)}")
        if stride > window:
            self.refuse("stride", stride, f"at most the window, {window}")
        blank = baseline_image(batch, self.baseline, valid_only=self.valid_only)
        clean = batch.value(objective, batch.image)
        total = torch.zeros_like(batch.image[:, :1])
        covered = torch.zeros_like(total[:1])
        for top in _starts(height, window, stride):
            for left in _starts(width, window, stride):
                place = (..., slice(top, top + window), slice(left, left + window))
                image = batch.image.clone()
                image[place] = blank[place]
                total[place] += (clean - batch.value(objective, image))[:, None, None, None]
                covered[place] += 1
        return (total / covered).expand_as(batch.image).clone()

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        window = self.window or default_side(height, width)
        return window, self.stride or max(1, window // 2)


@dataclass(frozen=True)
class Lime(Attribution):
    """Slopes of a linear model of the objective in superpixels that are switched on and off.

    Samples switch each superpixel on with probability 1/2; the first one has all of them on. A
    superpixel that is off is blanked. Sample z weighs exp(-d^2 / width^2), d = 1 - sqrt(mean z)
    its cosine distance from all on, and slopes come from ridge regression with a free intercept.
    Each pixel gets its superpixel's slope, in units of the objective.

    Args:
        superpixels: ``slic`` follows the image's intensities, ``grid`` are squares.
        cell: Side of the squares that superpixels are or start from, in pixels; 0 is an eighth of
            the slice's side, see :func:`default_side`, which makes about 64 superpixels.
        samples: How many times superpixels are drawn.
        width: Of the weights, in cosine distance.
        ridge: Factor of the squared slopes, in weighted samples.
        baseline: Intensity that superpixels are blanked with; 0 is that of the padding.
        valid_only: Whether padding is left as it is, and the map 0 there.

    References:
        Ribeiro, Singh, Guestrin: "Why should I trust you?": explaining the predictions of any
        classifier, KDD 2016, sections 3.3 and 3.4.
    """

    name: ClassVar[str] = "lime"
    unit: ClassVar[str] = OBJECTIVE
    superpixels: Literal["slic", "grid"] = "slic"
    cell: int = 0
    samples: int = 256
    width: float = 0.25
    ridge: float = 1.0
    baseline: float = 0.0
    valid_only: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        if self.superpixels not in {"slic", "grid"}:
            self.refuse("superpixels", self.superpixels, "slic or grid")
        self.check_at_least("cell", self.cell, 0)
        self.check_at_least("samples", self.samples, 2)
        for what, found in (("width", self.width), ("ridge", self.ridge)):
            if not 0 < found < inf:
                self.refuse(what, found, "a finite number above 0")
        if not isfinite(self.baseline):
            self.refuse("baseline", self.baseline, "a finite intensity")

    def passes(self, height: int, width: int) -> Passes:
        """A forward pass for each sample."""
        return Passes(self.samples, 0)

    def attribute(
        self, network: nn.Module, batch: AttackBatch, objective: Objective, seed: int
    ) -> Tensor:
        """Slopes, shape ``(B, C, H, W)``, the same for each channel.

        Raises:
            ValueError: If there are more superpixels than half the samples: too few to tell them
                apart.
        """
        cell = self.cell or default_side(*batch.image.shape[2:])
        cells = grid_cells(batch.image, cell)
        count = int(cells.max()) + 1
        if count > self.samples // 2:
            self.refuse(
                f"the number of superpixels with cell {cell}",
                count,
                f"at most half the samples, {self.samples // 2}; raise cell or samples",
            )
        labels = slic(batch.image, cells) if self.superpixels == "slic" else cells
        blank = baseline_image(batch, self.baseline, valid_only=self.valid_only)
        switches, values = [], []
        for sample in range(self.samples):
            draws = batch.uniforms(seed, f"{self.name}/superpixels", sample, count)
            on = draws < SHARE_ON if sample else torch.ones_like(draws, dtype=torch.bool)
            image = torch.where(_spread(on, labels), batch.image, blank)
            switches.append(on)
            values.append(batch.value(objective, image))
        slopes = _ridge_slopes(
            torch.stack(switches, dim=1), torch.stack(values, dim=1), self.width, self.ridge
        )
        pixels = _spread(slopes.to(batch.image.dtype), labels)
        if self.valid_only:
            pixels = pixels * batch.valid
        return pixels.expand_as(batch.image).clone()


def default_side(height: int, width: int) -> int:
    """An eighth of a slice's side, rounded up, of which about 64 squares fill it; 4 or more.

    Args:
        height: In pixels.
        width: In pixels; where the two differ their geometric mean counts.
    """
    return max(_SMALLEST_SIDE, ceil(sqrt(height * width) / _SQUARES))


def _starts(side: int, window: int, stride: int) -> range:
    return range(0, max(side - window, 0) + stride, stride)


def _spread(values: Tensor, labels: Tensor) -> Tensor:
    """Each superpixel's value ``(B, S)`` at its pixels ``(B, H, W)``: ``(B, 1, H, W)``."""
    return values.gather(1, labels.flatten(1)).reshape(labels.shape)[:, None]


def _ridge_slopes(on: Tensor, values: Tensor, width: float, ridge: float) -> Tensor:
    """Weighted ridge regression of values ``(B, n)`` on switches ``(B, n, S)``: ``(B, S)``."""
    switches, outcome = on.double(), values.double()
    distance = 1 - switches.mean(dim=2).sqrt()
    weights = torch.exp(-(distance**2) / width**2)
    share = (weights / weights.sum(dim=1, keepdim=True))[..., None]
    centred = switches - (share * switches).sum(dim=1, keepdim=True)
    rise = outcome[..., None] - (share * outcome[..., None]).sum(dim=1, keepdim=True)
    weighed = (centred * weights[..., None]).mT
    penalty = ridge * torch.eye(switches.shape[2], dtype=torch.float64, device=on.device)
    slopes: Tensor = torch.linalg.solve(weighed @ centred + penalty, weighed @ rise)
    return slopes[..., 0]
