"""Made slices: a disc in noise, zero-padded on the right and at the bottom."""

import numpy as np

from robustness.snapshots import Snapshot

HEIGHT, WIDTH = 20, 28  # of the part that is no padding
SIZE = 32
LEVELS = (0.0, 0.4, 1.0)


def made_snapshot(
    seed: int = 0, *, classes: int = 1, channels: int = 1, levels: tuple[float, ...] = LEVELS
) -> Snapshot:
    """A disc that is wider than high, its halves in two classes, with soft probabilities."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    inside = ((rows - 9) / 6) ** 2 + ((columns - 14) / 9) ** 2
    disc = inside < 1
    mask = np.stack(
        [disc] if classes == 1 else [disc & (columns % classes == k) for k in range(classes)]
    )
    valid = (rows < HEIGHT) & (columns < WIDTH)
    noise = generator.normal(0, 0.5, (classes, SIZE, SIZE))

    def probabilities(shift: float) -> np.ndarray:
        logits = np.where(mask, 3 * (1 - inside), -3.0) + noise - shift
        return (1 / (1 + np.exp(-logits))).astype(np.float32)

    image = np.where(valid, generator.random((channels, SIZE, SIZE)) * 0.2, 0)
    return Snapshot(
        case="case_007",
        slice_index=12,
        image=image.astype(np.float32),
        mask=mask,
        valid=valid,
        gradient=generator.normal(0, 1, (channels, SIZE, SIZE)).astype(np.float32),
        probs=probabilities(0.0),
        attack="top5_beyond_range",
        unit="image intensity",
        points=np.array(levels),
        attacked_probs=np.stack([probabilities(5 * level) for level in levels]),
    )


def cropped(array: np.ndarray) -> np.ndarray:
    """The part of a map that is no padding."""
    return array[..., :HEIGHT, :WIDTH]
