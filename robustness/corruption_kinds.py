"""What may go wrong when a scan is taken, in five strengths each: the table of corruptions.

Each kind takes one scan ``(C, h, w)`` in float32 on the host, without its padding, and gives the
corrupted one. Most go through MONAI's transforms; where one of them does something else than the
scanner does to a 2D scan, the function says what, and does it itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms.intensity.array import (
    GaussianSmooth,
    KSpaceSpikeNoise,
    RandGaussianNoise,
    RandRicianNoise,
    ShiftIntensity,
)
from monai.transforms.spatial.array import RandSimulateLowResolution
from monai.transforms.utils import Fourier
from torch import Tensor

# How many uniform numbers a kind may use; a polynomial field of degree 3 takes the most.
DRAWS = 9
_DEGREE = 3
_LARGEST_BOX = 0.3
# MONAI cuts its kernel off after this many standard deviations.
_KERNEL_SIGMAS = 4.0


@dataclass(frozen=True)
class Draw:
    """What a corruption of one scan depends on besides the scan and its strength.

    Attributes:
        low: Lower end of the image range: where there is no signal.
        high: Upper end of the image range.
        seed: 32 bits for MONAI's random state.
        uniforms: Numbers in [0, 1), float32, shape ``(DRAWS,)``, on the host.
    """

    low: float
    high: float
    seed: int
    uniforms: Tensor

    @property
    def span(self) -> float:
        """Width of the image range."""
        return self.high - self.low


@dataclass(frozen=True)
class Kind:
    """One kind of corruption.

    Attributes:
        apply: Gives the corrupted scan for a scan ``(C, h, w)``, a strength and a draw.
        strengths: Those of the severities 1 to 5, rising.
        unit: What the strengths are in.
        random: Whether repeats differ.
        source: Where the model and its strengths come from.
    """

    apply: Callable[[Tensor, float, Draw], Tensor]
    strengths: tuple[float, float, float, float, float]
    unit: str
    random: bool
    source: str


def gaussian_noise(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """White noise, through MONAI; one noise field is scaled to all severities of a repeat."""
    noise = RandGaussianNoise(prob=1.0, std=strength * draw.span, sample_std=False)
    noise.set_random_state(seed=draw.seed)
    return _plain(noise(scan))


def rician_noise(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """Noise in both parts of the complex signal before the scanner takes its magnitude.

    Through MONAI, which takes magnitudes about zero: intensities are counted from ``low`` here.
    """
    noise = RandRicianNoise(prob=1.0, std=strength * draw.span, sample_std=False)
    noise.set_random_state(seed=draw.seed)
    return _plain(noise(scan - draw.low)) + draw.low


def blur(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """A Gaussian point spread function, through MONAI.

    MONAI's filter takes what lies outside as zero, so that the margin of a scan turns dark; the
    scan is mirrored at its edges here. Its default kernel is the Gaussian's integral over each
    pixel; its ``sampled`` one does not add up to 1 and brightens the scan by 3 % at half a pixel.
    """
    width = math.ceil(_KERNEL_SIGMAS * strength) + 1
    margins = ((0, 0), (width, width), (width, width))
    mirrored = torch.from_numpy(np.pad(scan.numpy(), margins, mode="symmetric"))
    smooth = _plain(GaussianSmooth(sigma=strength)(mirrored))
    return smooth[:, width : width + scan.shape[1], width : width + scan.shape[2]]


def ghosting(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """Every n-th line of k-space loses a share of its signal; MONAI has nothing of the kind.

    Faint copies of the scan appear at multiples of 1/n of the field of view along one axis. The
    axis is drawn, and n from 3 to 6 as far as there are such lines. The line of mean intensity is
    kept. The result is the magnitude, counted from ``low``.
    """
    axis = 1 + int(draw.uniforms[0] * 2)
    lines = scan.shape[axis]
    period = 3 + int(draw.uniforms[1] * max(1, min(4, lines // 2 - 2)))
    frequency = torch.arange(lines) - lines // 2
    factor = torch.where((frequency % period == 0) & (frequency != 0), 1.0 - strength, 1.0)
    shape = (1, lines, 1) if axis == 1 else (1, 1, lines)
    k_space = Fourier.shift_fourier(scan.double() - draw.low, 2) * factor.reshape(shape)
    ghosted = torch.as_tensor(Fourier.inv_shift_fourier(k_space, 2))
    return (ghosted.abs() + draw.low).to(scan.dtype)


def bias_field(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """The signal, counted from ``low``, is multiplied by exp of a polynomial of degree 3.

    MONAI's field in 2D has each coefficient at (i, j) with i >= j: none that varies along the
    second axis alone, terms of degree 6, and a constant. Here all terms of degree 1 to 3 are drawn,
    from -1 to 1, and the field is scaled so that its largest absolute value is the strength.
    """
    rows, columns = (np.linspace(-1.0, 1.0, count) for count in scan.shape[1:])
    terms = [(i, j) for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i) if i + j > 0]
    coefficients = np.zeros((_DEGREE + 1, _DEGREE + 1))
    for (i, j), uniform in zip(terms, draw.uniforms.tolist(), strict=True):
        coefficients[i, j] = 2 * uniform - 1
    field = np.polynomial.legendre.leggrid2d(rows, columns, coefficients)
    gain = torch.from_numpy(np.exp(strength * field / max(np.abs(field).max(), 1e-12)))
    return ((scan.double() - draw.low) * gain + draw.low).to(scan.dtype)


def spike(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """One point of k-space is too bright by stripes of this amplitude; through MONAI.

    MONAI is told the logarithm of the new magnitude, which its default takes from the mean
    logarithm of the scan, and fails on tensors. Here it is what the stripes need on top of what is
    there, in image units. The point is never the mean intensity.
    """
    k_space = torch.as_tensor(Fourier.shift_fourier(scan, 2))
    height, width = scan.shape[1:]
    pixels, centre = height * width, height // 2 * width + width // 2
    place = (centre + 1 + int(draw.uniforms[0] * (pixels - 1))) % pixels
    row, column = divmod(place, width)
    wanted = k_space[:, row, column].abs() + strength * draw.span * pixels
    places = tuple((channel, row, column) for channel in range(scan.shape[0]))
    return _plain(KSpaceSpikeNoise(places, wanted.log().tolist())(scan))


def gamma(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """A power of the intensity's place in the image range, its sign kept outside of the range.

    MONAI scales by the least and the largest value of each slice, so that equal intensities of two
    slices come out differently; a scanner's or a converter's gamma knows one range for all.
    """
    place = (scan - draw.low) / draw.span
    return draw.low + draw.span * place.sign() * place.abs() ** strength


def low_resolution(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """Larger pixels, each the mean of what it covers, interpolated to the old grid; through MONAI.

    MONAI's defaults take every n-th pixel, which no scanner does, and an interpolation for 3D.
    """
    resample = RandSimulateLowResolution(
        prob=1.0,
        downsample_mode="area",
        upsample_mode="bilinear",
        zoom_range=(1 / strength, 1 / strength),
    )
    return _plain(resample(scan))


def intensity_shift(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """A constant is added, through MONAI."""
    return _plain(ShiftIntensity(offset=strength * draw.span)(scan))


def occlusion(scan: Tensor, strength: float, draw: Draw) -> Tensor:
    """A box without signal, about one centre for all severities of a repeat.

    MONAI draws the place by the box's size, so that severities lie in different places, and
    writes into the image that it is given.
    """
    covered = scan.clone()
    parts = []
    for uniform, side in zip(draw.uniforms[:2].tolist(), scan.shape[1:], strict=True):
        largest, size = (max(1, round(share * side)) for share in (_LARGEST_BOX, strength))
        start = math.floor(largest / 2 + uniform * (side - largest) - size / 2)
        parts.append(slice(max(start, 0), max(start, 0) + size))
    covered[:, parts[0], parts[1]] = draw.low
    return covered


_SHARE = "share of the image range"
# Tissue lies near the middle of an image range whose upper end belongs to a few bright voxels.
_BRAINWEB = (
    "Cocosco et al., BrainWeb, NeuroImage 5(4), 1997: 1 to 9 % of the signal of a tissue, "
    "which is taken as half the range"
)

KINDS: dict[str, Kind] = {
    "gaussian_noise": Kind(
        gaussian_noise,
        (0.01, 0.02, 0.03, 0.04, 0.05),
        f"standard deviation as {_SHARE}",
        random=True,
        source=_BRAINWEB,
    ),
    "rician_noise": Kind(
        rician_noise,
        (0.01, 0.02, 0.03, 0.04, 0.05),
        f"standard deviation in each part as {_SHARE}",
        random=True,
        source="Gudbjartsson and Patz, The Rician distribution of noisy MRI data, MRM 1995; "
        f"{_BRAINWEB}",
    ),
    "blur": Kind(
        blur,
        (0.5, 0.75, 1.0, 1.25, 1.5),
        "standard deviation in pixels",
        random=False,
        source="Isensee et al., nnU-Net, Nature Methods 2021: sigma from 0.5 to 1.5 pixels",
    ),
    "ghosting": Kind(
        ghosting,
        (0.2, 0.4, 0.6, 0.8, 1.0),
        "share of signal lost by every n-th line",
        random=True,
        source="Wood and Henkelman, MR image artifacts from periodic motion, Medical Physics 1985; "
        "lines are scaled as in Pérez-García et al., TorchIO, CMPB 2021; 1 loses them whole",
    ),
    "bias_field": Kind(
        bias_field,
        (0.1, 0.2, 0.3, 0.4, 0.5),
        "largest logarithm of the gain",
        random=True,
        source="Van Leemput et al., Automated model-based bias field correction of MR images of "
        "the brain, IEEE TMI 1999; BrainWeb's fields of 20 and 40 % are near 0.1 and 0.2",
    ),
    "spike": Kind(
        spike,
        (0.02, 0.04, 0.06, 0.08, 0.1),
        f"amplitude of the stripes as {_SHARE}",
        random=True,
        source="Zhuo and Gullapalli, AAPM/RSNA physics tutorial: MR artifacts, RadioGraphics 2006; "
        "amplitudes (ours): those of the noise",
    ),
    "gamma": Kind(
        gamma,
        (1.1, 1.2, 1.3, 1.4, 1.5),
        "exponent",
        random=False,
        source="Isensee et al., nnU-Net, Nature Methods 2021: exponents up to 1.5",
    ),
    "low_resolution": Kind(
        low_resolution,
        (1.25, 1.5, 2.0, 2.5, 3.5),
        "width of the acquired pixels in pixels",
        random=False,
        source="Isensee et al., nnU-Net, Nature Methods 2021: up to 2; the last two (ours) beyond",
    ),
    "intensity_shift": Kind(
        intensity_shift,
        (0.02, 0.05, 0.1, 0.15, 0.2),
        _SHARE,
        random=False,
        source="brightness of Hendrycks and Dietterich, Benchmarking neural network robustness to "
        "common corruptions and perturbations, ICLR 2019, at less than half its strengths",
    ),
    "occlusion": Kind(
        occlusion,
        (0.1, 0.15, 0.2, 0.25, _LARGEST_BOX),
        "side of the box as share of the scan's",
        random=True,
        source="DeVries and Taylor, Improved regularization of convolutional neural networks with "
        "cutout, 2017; at most a third of each side (ours), as of a loss of signal around metal",
    ),
}


def _plain(found: object) -> Tensor:
    """MONAI gives tensors with metadata, which stay what they are in all that follows."""
    return torch.as_tensor(found).as_subclass(Tensor)
