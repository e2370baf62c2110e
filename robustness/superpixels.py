"""Superpixels: squares, or clusters of pixels that are close in place and in intensity."""

import torch
from torch import Tensor

ROUNDS = 5


def grid_cells(image: Tensor, cell: int) -> Tensor:
    """Squares, numbered row by row; those at the right and lower border may be cut.

    Args:
        image: Shape ``(B, C, H, W)``.
        cell: Side, in pixels.

    Returns:
        Number of each pixel's square, from 0, int64, shape ``(B, H, W)``.
    """
    height, width = image.shape[2:]
    rows = torch.arange(height, device=image.device) // cell
    columns = torch.arange(width, device=image.device) // cell
    numbers = rows[:, None] * (-(-width // cell)) + columns
    return numbers.expand(len(image), -1, -1)


def slic(image: Tensor, cells: Tensor, compactness: float = 0.3) -> Tensor:
    """Clusters that start from squares and move towards pixels of like intensity.

    Rounds of k-means over (intensity, row, column), in which a pixel may go to the clusters that
    started from its own square and from the eight around it. The squared distance of a pixel to a
    cluster's mean is that of intensities, in shares of the slice's range, plus compactness^2 times
    that of places, in sides of a square. A cluster may fall apart or lose all its pixels; its
    number stays. Takes nine comparisons a pixel, and the memory of one slice at a time.

    Args:
        image: Shape ``(B, C, H, W)``.
        cells: Where clusters start, from :func:`grid_cells`, shape ``(B, H, W)``.
        compactness: What one side of a square weighs, in shares of the range.

    Returns:
        Number of each pixel's cluster, int64, shape ``(B, H, W)``.

    References:
        Achanta et al.: SLIC superpixels compared to state-of-the-art superpixel methods, PAMI
        2012, section 3; there a cluster's neighbourhood moves with it, here it stays where it
        started.
    """
    flat = image.flatten(1)
    low, high = flat.amin(dim=1), flat.amax(dim=1)
    span = torch.where(high > low, high - low, 1)[:, None, None, None]
    pairs = zip(image / span, cells, strict=True)
    return torch.stack([_clusters(scaled, start, compactness) for scaled, start in pairs])


def _clusters(image: Tensor, cells: Tensor, compactness: float) -> Tensor:
    """Clusters of one slice ``(C, H, W)``: ``(H, W)``."""
    height, width = cells.shape
    across = int(cells[0, -1]) + 1
    count = int(cells[-1, -1]) + 1
    side = (height * width / count) ** 0.5
    rows = torch.arange(height, device=image.device, dtype=image.dtype) / side * compactness
    columns = torch.arange(width, device=image.device, dtype=image.dtype) / side * compactness
    place = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.cat([image, torch.stack(place)]).flatten(1)
    start = cells.flatten()
    near = [
        _neighbour(start, down, right, across, count // across)
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    labels = start
    centres = points.new_zeros(len(points), count)
    for _ in range(ROUNDS):
        sizes = torch.bincount(labels, minlength=count).to(points.dtype)
        sums = torch.zeros_like(centres).index_add(1, labels, points)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
        nearest = torch.full_like(points[0], torch.inf)
        for there, inside in near:
            distance = (points - centres[:, there]).square_().sum(dim=0)
            # Of clusters that are equally near the first by number.
            closer = inside & (distance < nearest)
            nearest = torch.where(closer, distance, nearest)
            labels = torch.where(closer, there, labels)
    return labels.reshape(cells.shape)


def _neighbour(
    start: Tensor, down: int, right: int, across: int, rows: int
) -> tuple[Tensor, Tensor]:
    """Number of a square near each pixel's own, and whether there is one."""
    row, column = start // across + down, start % across + right
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < across)
    return torch.where(inside, row * across + column, start), inside
