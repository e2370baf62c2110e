"""One made-up volume: a bent, tapered tube in parts beside look-alikes, as a scanner may show it.

Everything is synthetic. Lengths are in voxels of 1 mm; intensities are relative until the end.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Field = NDArray[np.float64]

_SHAPE_MEAN, _SHAPE_SPREAD = (36.0, 50.0, 37.0), (2.0, 3.0, 4.0)
_SHAPE_LEAST, _SHAPE_MOST = (31, 40, 24), (43, 59, 47)
_CENTRES = 40


@dataclass(frozen=True)
class Tube:
    """A bent tube with a round end at each side.

    Attributes:
        centres: Points on its middle line, shape ``(N, 3)``.
        radii: Its radius at each of them, shape ``(N,)``.
    """

    centres: Field
    radii: Field


def make_volume(
    rng: np.random.Generator, classes: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Make a volume and its label map.

    Args:
        rng: Source of everything that differs between volumes.
        classes: Into how many parts the structure is divided along its length.

    Returns:
        Whole-numbered intensities and labels 0 to ``classes``, both of shape ``(X, Y, Z)``.
    """
    shape = tuple(
        np.clip(np.rint(rng.normal(_SHAPE_MEAN, _SHAPE_SPREAD)), _SHAPE_LEAST, _SHAPE_MOST)
        .astype(int)
        .tolist()
    )
    structure = _structure(rng, shape)
    depth, along = _depth_in(shape, structure)
    # Surfaces are rough, and whoever drew the labels followed them to a sixth of a voxel.
    depth += 0.4 * _noise(rng, shape, sigma=2.0)
    drawn = depth + 0.15 * _noise(rng, shape, sigma=1.2)
    cuts = along + 0.02 * _noise(rng, shape, sigma=2.0)
    part = 1 + np.clip(np.floor(classes * cuts), 0, classes - 1)
    label = np.where(drawn > 0, part, 0).astype(np.uint8)

    likeness = _look_alikes(rng, shape, structure)
    tissue = _tissue(rng, shape, inside=depth, like=likeness)
    return _scan(rng, tissue), label


def _structure(rng: np.random.Generator, shape: tuple[int, ...]) -> Tube:
    """Lay the tube through the volume: thick end in front and low, thin end behind and high."""
    t = np.linspace(0.0, 1.0, _CENTRES)
    start = np.array([0.46, 0.76, 0.25]) + rng.normal(0, 0.025, 3)
    end = np.array([0.50, 0.22, 0.74]) + rng.normal(0, 0.025, 3)
    bow = np.array([-0.16, 0.0, -0.06]) + rng.normal(0, [0.04, 0.02, 0.04])
    hook = np.array([0.10, 0.02, 0.05]) + rng.normal(0, [0.04, 0.02, 0.03])
    centres = start + np.outer(t, end - start)
    centres += np.outer(np.sin(np.pi * t), bow) + np.outer(np.cos(3 * np.pi * t) * (1 - t), hook)
    centres *= shape
    profile = (1.0 - 0.45 * t) * (1.0 + 0.12 * np.sin(5 * t + rng.uniform(0, 2 * np.pi)))
    lengths = np.linalg.norm(np.gradient(centres, axis=0), axis=1)
    voxels = rng.uniform(0.042, 0.056) * float(np.prod(shape))
    radii = profile * np.sqrt(voxels / (np.pi * np.sum(lengths * profile**2)))
    # Less by what the round ends add.
    return Tube(centres, radii * 0.94)


def _look_alikes(rng: np.random.Generator, shape: tuple[int, ...], structure: Tube) -> Field:
    """Place neighbours of like intensity: one at each end, one alongside, some elsewhere."""
    centres, radii = structure.centres, structure.radii
    front = centres[0] + (centres[0] - centres[4]) * rng.uniform(0.9, 1.6) + rng.normal(0, 2.0, 3)
    behind = centres[-1] + (centres[-1] - centres[-5]) * rng.uniform(0.8, 1.4)
    aside = rng.normal(0, 1, 3)
    aside *= (radii.mean() * rng.uniform(1.7, 2.3)) / np.linalg.norm(aside)
    along = slice(int(rng.integers(0, 10)), int(rng.integers(24, _CENTRES)))
    tubes = [
        _blob(front, radii[0] * rng.uniform(0.7, 1.1)),
        _blob(behind, radii[-1] * rng.uniform(0.8, 1.2)),
        Tube(centres[along] + aside, radii[along] * rng.uniform(0.35, 0.6)),
        *(_blob(rng.uniform(0, shape), rng.uniform(2.0, 4.5)) for _ in range(3)),
    ]
    depth = np.full(shape, -np.inf)
    for tube in tubes:
        depth = np.maximum(depth, _depth_in(shape, tube)[0])
    return depth + 0.8 * _noise(rng, shape, sigma=1.5)


def _tissue(
    rng: np.random.Generator, shape: tuple[int, ...], *, inside: Field, like: Field
) -> Field:
    """Mix the intensities of three tissues by the share that each has in a voxel."""
    grey, white, fluid = 0.42, 0.75, 0.12
    folds = _noise(rng, shape, sigma=2.2)
    # A rim of white matter or fluid covers most of the structure, as far as it is thick enough.
    rim = np.exp(-np.square((inside + 2.0) / 1.6))
    folds = (1 - 0.8 * rim) * folds + rim * (1.0 + 0.5 * _noise(rng, shape, sigma=3.0))
    share_white = _share(3.0 * (folds - 0.15))
    share_fluid = _share(3.0 * (-folds - 0.9))
    around = grey + (white - grey) * share_white + (fluid - grey) * share_fluid
    around += 0.025 * _noise(rng, shape, sigma=0.8)
    alike = grey + rng.normal(0, 0.015) + 0.02 * _noise(rng, shape, sigma=1.0)
    own = grey + 0.02 * _noise(rng, shape, sigma=1.0) + 0.015 * _noise(rng, shape, sigma=3.0)
    around += (alike - around) * _share(like)
    return around + (own - around) * _share(inside)


def _scan(rng: np.random.Generator, tissue: Field) -> NDArray[np.float32]:
    """Blur, shade, add vessels and noise, and give the volume a scale of its own."""
    shape = tissue.shape
    image = tissue + _vessels(rng, shape)
    image = gaussian_filter(image, rng.uniform(0.4, 0.55))
    image *= np.exp(0.10 * _noise(rng, shape, sigma=12.0))
    sigma = rng.uniform(0.015, 0.028)
    image = np.hypot(image + rng.normal(0, sigma, shape), rng.normal(0, sigma, shape))
    image = image ** rng.uniform(0.9, 1.15) + rng.uniform(0.0, 0.1)
    scale = 10 ** rng.uniform(2.5, 5.5)
    return np.rint(scale * image).astype(np.float32)


def _vessels(rng: np.random.Generator, shape: tuple[int, ...]) -> Field:
    spots = np.zeros(shape)
    places = tuple(rng.integers(0, length, 6) for length in shape)
    spots[places] = rng.uniform(8.0, 16.0, 6)
    return gaussian_filter(spots, 0.8)


def _depth_in(shape: tuple[int, ...], tube: Tube) -> tuple[Field, Field]:
    """Find how deep each voxel lies in a tube and where along it.

    Args:
        shape: Lengths of the volume.
        tube: The tube.

    Returns:
        Depth below the surface, negative outside, and the share of the tube's volume that comes
        before the nearest of its centres, both in that shape.
    """
    depth = np.full(shape, -np.inf)
    nearest = np.zeros(shape, dtype=int)
    x, y, z = np.ogrid[tuple(slice(length) for length in shape)]
    for index, (centre, radius) in enumerate(zip(tube.centres, tube.radii, strict=True)):
        squares = (np.square(x - centre[0]) + np.square(y - centre[1])) + np.square(z - centre[2])
        here = radius - np.sqrt(squares)
        nearer = here > depth
        depth[nearer] = here[nearer]
        nearest[nearer] = index
    volume = np.cumsum(np.square(tube.radii))
    return depth, (volume / volume[-1])[nearest]


def _blob(centre: Field, radius: float) -> Tube:
    return Tube(centre[np.newaxis], np.array([radius]))


def _share(depth: Field) -> Field:
    """Share of a voxel of 1 mm that lies below a surface at this depth."""
    return np.clip(0.5 + depth, 0.0, 1.0)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], *, sigma: float) -> Field:
    """Smooth noise of mean 0 and standard deviation 1, correlated over about ``sigma`` voxels."""
    field = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    field -= field.mean()
    return np.asarray(field / field.std())
