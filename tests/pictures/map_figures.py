"""Words and panels that pictures of maps are tested with."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustness.pictured import SliceMaps
from tests.robustness.maps import WORDS

METHODS = ("gradient", "grad_cam", "occlusion")
PER_INTENSITY = f"d({WORDS}) / d(intensity)"
LONG = "0.5*bce+batch_dice+asymmetric_unified_focal (outputs=softmax)"
FAILS = "fails randomised, deletion, insertion, stable"


def panels(figure: Figure) -> list[Axes]:
    """All panels row by row, blank ones too, without colour bars."""
    return [axes for axes in figure.axes if not is_bar(axes)]


def is_bar(axes: Axes) -> bool:
    return axes.get_label() == "<colorbar>"


def bars(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if is_bar(axes)]


def scaled(maps: SliceMaps, factor: float) -> SliceMaps:
    return replace(maps, maps=np.float32(factor) * maps.maps)
