"""Made attribution maps of a made slice."""

import json
from collections.abc import Sequence

import numpy as np

from robustness.attribution import METHODS
from robustness.pictured import SliceMaps
from tests.pictures.slices import made_snapshot

WORDS = "sum of p"


def made_maps(
    seed: int = 0,
    *,
    methods: Sequence[str] = ("gradient",),
    classes: int = 1,
    channels: int = 1,
    case: str = "case_007",
) -> SliceMaps:
    """Noise on the disc of ``tests.pictures.slices``; never below 0 where a method says so."""
    shot = made_snapshot(seed, classes=classes, channels=channels)
    generator = np.random.default_rng(seed)
    kinds = [METHODS[name]() for name in methods]
    maps = [generator.normal(0, 1, shot.image.shape) for _ in kinds]
    maps = [one if kind.signed else np.abs(one) for one, kind in zip(maps, kinds, strict=True)]
    return SliceMaps(
        case=case,
        slice_index=shot.slice_index,
        image=shot.image,
        mask=shot.mask,
        valid=shot.valid,
        probs=shot.probs,
        explained=WORDS,
        methods=np.array(methods),
        units=np.array([kind.unit.replace("{}", WORDS) for kind in kinds]),
        signed=np.array([kind.signed for kind in kinds]),
        settings=np.array([json.dumps({**kind.settings(), "seed": 0}) for kind in kinds]),
        checkpoint_sha256="c" * 64,
        maps=np.stack(maps).astype(np.float32),
    )
