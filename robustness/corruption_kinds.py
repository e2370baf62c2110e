"""The table of corruptions: what may go wrong when a scan is taken, in five strengths each."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from robustness.corruption_models import (
    LARGEST_BOX,
    Draw,
    bias_field,
    blur,
    gamma,
    gaussian_noise,
    ghosting,
    intensity_shift,
    low_resolution,
    occlusion,
    rician_noise,
    spike,
)


@dataclass(frozen=True)
class Kind:
    """One kind of corruption.

    Attributes:
        apply: Gives corrupted scans for scans ``(N, C, h, w)``, a strength and a draw.
        strengths: Those of the severities 1 to 5, rising.
        unit: What the strengths are in.
        random: Whether repeats differ.
        ranged: Whether the image range (``low`` and ``high`` of the attack) has a part in it.
        source: Where the model and its strengths come from.
    """

    apply: Callable[[Tensor, float, Draw], Tensor]
    strengths: tuple[float, float, float, float, float]
    unit: str
    random: bool
    source: str
    ranged: bool = True


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
        ranged=False,
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
        ranged=False,
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
        (0.1, 0.15, 0.2, 0.25, LARGEST_BOX),
        "side of the box as share of the scan's",
        random=True,
        source="DeVries and Taylor, Improved regularization of convolutional neural networks with "
        "cutout, 2017; at most a third of each side (ours), as of a loss of signal around metal",
    ),
}
