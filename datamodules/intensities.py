"""Which intensities of a channel become 0 and the brightest pixel."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.wrong_input import wrong_input


@dataclass(frozen=True)
class IntensityRange:
    """The range that is scaled; what lies outside of it is cut to its ends.

    Without window and percentiles it is that of each channel of each volume, from its smallest to
    its largest voxel, as in the paper.

    Attributes:
        window: Lowest and highest value as stored, the same for every volume: for CT in Hounsfield
            units.
        percentiles: Of each channel of each volume, over all its voxels.
    """

    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None

    def limits(self, channel: NDArray[np.generic]) -> tuple[float, float]:
        """The ends of the range.

        Args:
            channel: Finite intensities of one channel of a volume, shape ``(X, Y, Z)``.

        Returns:
            Low and high; equal where the percentiles of a channel are.
        """
        if self.window is not None:
            return self.window
        if self.percentiles is not None:
            low, high = np.percentile(channel.astype(np.float64), self.percentiles)
            return float(low), float(high)
        return float(channel.min()), float(channel.max())


# Each channel's own extremes.
WHOLE_RANGE = IntensityRange()


def check_intensities(
    window: tuple[float, float] | None, percentiles: tuple[float, float] | None
) -> IntensityRange:
    """The range that options ask for.

    Args:
        window: ``--data.window``.
        percentiles: ``--data.percentiles``.

    Raises:
        InputError: If both are given, or the numbers do not rise, or are no percentiles.
    """
    if window is not None and percentiles is not None:
        raise wrong_input(
            at="--data.window and --data.percentiles",
            found="both",
            expected="one of them",
            do="set the other to null",
        )
    if window is not None and not -math.inf < window[0] < window[1] < math.inf:
        raise wrong_input(
            at="--data.window",
            found=list(window),
            expected="two finite numbers, the lower one first",
            do="set for example [-160,240], soft tissue in Hounsfield units",
        )
    if percentiles is not None and not 0 <= percentiles[0] < percentiles[1] <= 100:  # noqa: PLR2004
        raise wrong_input(
            at="--data.percentiles",
            found=list(percentiles),
            expected="two numbers from 0 to 100, the lower one first",
            do="set for example [0.5,99.5]",
        )
    return IntensityRange(
        None if window is None else (float(window[0]), float(window[1])),
        None if percentiles is None else (float(percentiles[0]), float(percentiles[1])),
    )
