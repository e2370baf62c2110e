"""Models of what may go wrong when a scan is taken; their strengths stand in ``corruption_kinds``.

Each takes scans of one size ``(N, C, h, w)``, float32, without their padding, and gives the
corrupted ones, all at once on their device. A scan comes out the same whatever others are beside
it. Transforms of MONAI that draw nothing take the scans as channels of one image (blur, low
resolution, shift). Those that draw would give all scans one state, so that they are done here:
each function says what MONAI's does, and what else it would do to a 2D scan.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms.intensity.array import GaussianSmooth, ShiftIntensity
from monai.transforms.spatial.array import RandSimulateLowResolution
from torch import Tensor

from robustness.directed import box_muller
from robustness.keyed_random import absorb, counter_hashes, uniforms

# How many uniform numbers a kind may use; a polynomial field of degree 3 takes the most.
DRAWS = 9
_DEGREE = 3
LARGEST_BOX = 0.3
# MONAI cuts its kernel off after this many standard deviations.
_KERNEL_SIGMAS = 4.0


@dataclass(frozen=True)
class Draw:
    """What a corruption of scans depends on besides the scans and its strength.

    Attributes:
        low: Lower end of the image range: where there is no signal.
        high: Upper end of the image range.
        keys: One hash state for each scan, int64, shape ``(N,)``.
    """

    low: float
    high: float
    keys: Tensor

    @property
    def span(self) -> float:
        """Width of the image range."""
        return self.high - self.low

    @property
    def uniforms(self) -> Tensor:
        """Numbers in [0, 1), float64, shape ``(DRAWS, N)``."""
        return uniforms(counter_hashes(self.keys, 0, DRAWS)).double().T

    def normals(self, like: Tensor, purpose: int = 0) -> Tensor:
        """Standard normal numbers, one for each number of the scans.

        Args:
            like: The scans, shape ``(N, C, h, w)``.
            purpose: 0, 1 and so on for fields that are independent of each other.

        Returns:
            float64, same shape: rounded to float32 at last, a scan is the same in any batch.
        """
        keys = absorb(self.keys, 1 + purpose)
        length, angle = (
            uniforms(counter_hashes(keys, part, like[0].numel())).double() for part in (0, 1)
        )
        return box_muller(length, angle).reshape(like.shape)


def gaussian_noise(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """White noise; one noise field is scaled to all severities of a repeat.

    As MONAI's ``RandGaussianNoise`` without its random deviation.
    """
    return (scans + strength * draw.span * draw.normals(scans)).to(scans.dtype)


def rician_noise(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """Noise in both parts of the complex signal before the scanner takes its magnitude.

    As MONAI's ``RandRicianNoise``, which takes magnitudes about zero: intensities are counted from
    ``low`` here.
    """
    sigma = strength * draw.span
    real = scans - draw.low + sigma * draw.normals(scans, 0)
    magnitude = torch.hypot(real, sigma * draw.normals(scans, 1))
    return (magnitude + draw.low).to(scans.dtype)


def blur(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """A Gaussian point spread function, through MONAI.

    MONAI's filter takes what lies outside as zero, so that the margin of a scan turns dark; the
    scan is mirrored at its edges here. Its default kernel is the Gaussian's integral over each
    pixel; its ``sampled`` one does not add up to 1 and brightens the scan by 3 % at half a pixel.
    """
    margin = math.ceil(_KERNEL_SIGMAS * strength) + 1
    height, width = scans.shape[2:]
    rows, columns = (_mirrored(side, margin).to(scans.device) for side in (height, width))
    smooth = _as_channels(GaussianSmooth(sigma=strength), scans[..., rows[:, None], columns])
    return smooth[..., margin : margin + height, margin : margin + width]


def ghosting(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """Every n-th line of k-space loses a share of its signal; MONAI has nothing of the kind.

    Faint copies of the scan appear at multiples of 1/n of the field of view along one axis. The
    axis is drawn, and n from 3 to 6 as far as there are such lines. The line of mean intensity is
    kept. The result is the magnitude, counted from ``low``.
    """
    first, second = draw.uniforms[:2]
    along_rows = (first < 1 / 2)[:, None, None, None]
    factors = []
    for axis, lines in ((2, scans.shape[2]), (3, scans.shape[3])):
        period = 3 + (second * max(1, min(4, lines // 2 - 2))).long()[:, None]
        frequency = _frequencies(lines, scans.device)
        weak = (frequency % period == 0) & (frequency != 0)
        factor = torch.where(weak, 1.0 - strength, 1.0).double()
        factors.append(factor[:, None, :, None] if axis == 2 else factor[:, None, None, :])  # noqa: PLR2004
    k_space = torch.fft.fft2(scans.double() - draw.low)
    ghosted: Tensor = torch.fft.ifft2(k_space * torch.where(along_rows, *factors)).abs()
    return (ghosted + draw.low).to(scans.dtype)


def bias_field(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """The signal, counted from ``low``, is multiplied by exp of a polynomial of degree 3.

    MONAI's field in 2D has each coefficient at (i, j) with i >= j: none that varies along the
    second axis alone, terms of degree 6, and a constant. Here all terms of degree 1 to 3 are drawn,
    from -1 to 1, and the field is scaled so that its largest absolute value is the strength.
    """
    powers = (
        np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, side), _DEGREE)
        for side in scans.shape[2:]
    )
    rows, columns = (torch.from_numpy(each.T.copy()).to(scans.device) for each in powers)
    terms = [(i, j) for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i) if i + j > 0]
    field = torch.zeros_like(scans[:, :1], dtype=torch.float64)
    for (i, j), uniform in zip(terms, draw.uniforms, strict=True):
        coefficient = (2 * uniform - 1)[:, None, None, None]
        field = field + coefficient * (rows[i][:, None] * columns[j])
    largest = field.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    gain = torch.exp(strength * field / largest)
    return ((scans.double() - draw.low) * gain + draw.low).to(scans.dtype)


def spike(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """One point of k-space is too bright by stripes of this amplitude.

    As MONAI's ``KSpaceSpikeNoise``, which is told the logarithm of the new magnitude and takes it
    from the mean logarithm of the scan by default. Here it is what the stripes need on top of what
    is there, in image units. Phase and channels stay; the point is never the mean intensity.
    """
    height, width = scans.shape[2:]
    pixels = height * width
    # Row-major, 0 being the mean intensity; a scan of one pixel has nothing else.
    place = (1 + (draw.uniforms[0] * (pixels - 1)).long()) % pixels
    row, column = place // width, place % width
    k_space = torch.fft.fft2(scans.double()).flatten(2)
    here = k_space.gather(2, place[:, None, None].expand(-1, scans.shape[1], 1))[..., None]
    # Where there is nothing but rounding, its phase would be that of chance.
    phase = torch.where(here.abs() > 1e-9 * draw.span * pixels, here.angle(), 0.0)
    rows = torch.arange(height, device=scans.device)[:, None]
    columns = torch.arange(width, device=scans.device)
    # Whole numbers first: the turns of a wave need no more than their remainder.
    turns = (row[:, None, None] * rows % height).double() / height
    turns = turns + (column[:, None, None] * columns % width).double() / width
    stripes = torch.cos(2 * math.pi * turns[:, None] + phase)
    return (scans.double() + strength * draw.span * stripes).to(scans.dtype)


def gamma(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """A power of the intensity's place in the image range, its sign kept outside of the range.

    MONAI scales by the least and the largest value of each slice, so that equal intensities of two
    slices come out differently; a scanner's or a converter's gamma knows one range for all.
    """
    place = (scans.double() - draw.low) / draw.span
    found = draw.low + draw.span * place.sign() * place.abs() ** strength
    return found.to(scans.dtype)


def low_resolution(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """Larger pixels, each the mean of what it covers, interpolated to the old grid; through MONAI.

    MONAI's defaults take every n-th pixel, which no scanner does, and an interpolation for 3D.
    """
    resample = RandSimulateLowResolution(
        prob=1.0,
        downsample_mode="area",
        upsample_mode="bilinear",
        zoom_range=(1 / strength, 1 / strength),
    )
    return _as_channels(resample, scans)


def intensity_shift(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """A constant is added, through MONAI."""
    return _as_channels(ShiftIntensity(offset=strength * draw.span), scans)


def occlusion(scans: Tensor, strength: float, draw: Draw) -> Tensor:
    """A box without signal, about one centre for all severities of a repeat.

    MONAI draws the place by the box's size, so that severities lie in different places, and
    writes into the image that it is given.
    """
    inside = []
    for uniform, side in zip(draw.uniforms[:2], scans.shape[2:], strict=True):
        largest, size = (max(1, round(share * side)) for share in (LARGEST_BOX, strength))
        start = (largest / 2 + uniform * (side - largest) - size / 2).floor().clamp(min=0)
        line = torch.arange(side, device=scans.device)
        inside.append((line >= start[:, None]) & (line < start[:, None] + size))
    box = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(box, draw.low, scans)


def _as_channels(transform: Callable[[Tensor], object], scans: Tensor) -> Tensor:
    """MONAI's transforms take one image; what treats channels alike treats scans alike."""
    found = torch.as_tensor(transform(scans.flatten(0, 1)))
    # MONAI gives tensors with metadata, which stay what they are in all that follows.
    return found.as_subclass(Tensor).reshape(*scans.shape[:2], *found.shape[1:])


def _mirrored(side: int, margin: int) -> Tensor:
    """Indices of a line that is mirrored at its ends, each end pixel twice."""
    place = torch.arange(-margin, side + margin) % (2 * side)
    return torch.where(place < side, place, 2 * side - 1 - place)


def _frequencies(lines: int, device: torch.device) -> Tensor:
    """Whole frequencies of the lines of k-space in the order of the Fourier transform."""
    places = torch.arange(lines, device=device)
    return (places + lines // 2) % lines - lines // 2
