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

    Rounds of k-means over (intensity, row, column). The squared distance of a pixel to a cluster's
    mean is that of intensities, in shares of the slice's range, plus compactness^2 times that of
    places, in sides of a square. A cluster may fall apart or lose all its pixels; its number stays.

    Args:
        image: Shape ``(B, C, H, W)``.
        cells: Where clusters start, from :func:`grid_cells`, shape ``(B, H, W)``.
        compactness: What one side of a square weighs, in shares of the range.

    Returns:
        Number of each pixel's cluster, int64, shape ``(B, H, W)``.

    References:
        Achanta et al.: SLIC superpixels compared to state-of-the-art superpixel methods, PAMI
        2012, section 3; here each pixel is compared to every cluster.
    """
    height, width = image.shape[2:]
    count = int(cells.max()) + 1
    flat = image.flatten(1)
    low, high = flat.amin(dim=1), flat.amax(dim=1)
    span = torch.where(high > low, high - low, 1)[:, None, None, None]
    side = (height * width / count) ** 0.5
    rows = torch.arange(height, device=image.device, dtype=image.dtype) / side * compactness
    columns = torch.arange(width, device=image.device, dtype=image.dtype) / side * compactness
    place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    points = torch.cat([image / span, place.expand(len(image), -1, -1, -1)], dim=1)
    points = points.flatten(2).mT
    labels = cells.flatten(1)
    centres = torch.zeros(len(image), count, points.shape[2], device=image.device).to(image)
    for _ in range(ROUNDS):
        index = labels[..., None].expand_as(points)
        sizes = torch.zeros_like(centres).scatter_add(1, index, torch.ones_like(points))
        sums = torch.zeros_like(centres).scatter_add(1, index, points)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
        # Differences rather than products: these would round, by how many slices there are.
        distance = sum(
            (points[:, :, None, axis] - centres[:, None, :, axis]) ** 2
            for axis in range(points.shape[2])
        )
        labels = torch.as_tensor(distance).argmin(dim=2)
    return labels.reshape(cells.shape)
