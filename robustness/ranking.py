"""Orders of pixels: which ones an attack takes first."""

import torch
from torch import Tensor
from torch.nn import functional

from robustness.keyed_random import counter_hashes

# Where an order is this many times as long as what is taken of it, finding the first ones is
# several times as fast as sorting all.
_FEW = 16


def rank_by_score(score: Tensor, count: int, allowed: Tensor | None = None) -> Tensor:
    """The pixels with the highest scores, highest first; ties go to the lower row-major index.

    Args:
        score: One finite number per pixel, shape ``(B, H, W)`` or with as many more axes as it is
            to rank, such as ``(B, C, H, W)`` for the entries of channels.
        count: How many pixels each image gives.
        allowed: False for pixels that come after all others, same shape as ``score``; None allows
            all.

    Returns:
        Row-major pixel indices, int64, shape ``(B, count)``.

    Raises:
        ValueError: If an image has fewer than ``count`` pixels.
    """
    flat = score.flatten(1)
    _check_count(count, flat.shape[1])
    if allowed is not None:
        flat = flat.masked_fill(~allowed.flatten(1), -torch.inf)
    if flat.dtype is torch.float32 and _FEW * count <= flat.shape[1]:
        return _untied(flat).topk(count, dim=1).indices
    order = torch.sort(flat, dim=1, descending=True, stable=True).indices
    return order[:, :count].contiguous()


def rank_at_random(keys: Tensor, repeat: int, valid: Tensor, count: int) -> Tensor:
    """Random pixels of the valid region, in an order that is a function of key and repeat.

    Args:
        keys: One hash state per image, int64, shape ``(B,)``.
        repeat: Which repetition of the experiment.
        valid: True where pixels may be taken, shape ``(B, 1, H, W)``, or ``(B, C, H, W)`` to take
            entries of channels. An image with fewer than ``count`` valid pixels gives pixels of the
            padding after its last valid one.
        count: How many pixels each image gives; the first ones are the same for every count.

    Returns:
        Row-major pixel indices, int64, shape ``(B, count)``.

    Raises:
        ValueError: If an image has fewer than ``count`` pixels.
    """
    flat = valid.flatten(1)
    _check_count(count, flat.shape[1])
    # Half the range of int64 is left for padding, which follows in row-major order.
    score = counter_hashes(keys, repeat, flat.shape[1]) >> 1
    padding = -(2**62) - 1 - torch.arange(flat.shape[1], device=flat.device)
    return torch.where(flat, score, padding).topk(count, dim=1).indices


def rank_matched(image: Tensor, top: Tensor, allowed: Tensor, hashes: Tensor) -> Tensor:
    """For each pixel of an order another one of closest intensity: a control for brightness.

    A match lies outside of the order and is taken once. Among pixels as close the one with the
    highest hash is taken.

    Args:
        image: Clean intensities, shape ``(B, C, N)``; distances are summed over channels.
        top: The pixels to be matched, the first one first, int64, shape ``(B, n)``.
        allowed: True where a match may lie, shape ``(B, N)``, or ``(B, n, N)`` where it depends on
            the pixel that is matched; each needs ``n`` such pixels outside of the order.
        hashes: Random int64, shape ``(B, N)``.

    Returns:
        Pixel indices, int64, shape ``(B, n)``.
    """
    count = top.shape[1]
    wanted = image.gather(2, top[:, None].expand(-1, image.shape[1], -1))
    free = torch.ones_like(hashes, dtype=torch.bool).scatter(1, top, value=False)
    matches = []
    for rank in range(count):
        candidates = free & (allowed[:, rank] if allowed.dim() > top.dim() else allowed)
        distance = (image - wanted[:, :, rank, None]).abs().sum(dim=1)
        distance = distance.masked_fill(~candidates, torch.inf)
        closest = distance == distance.amin(dim=1, keepdim=True)
        # Half the range of int64 is left for what is farther away.
        match = torch.where(closest, hashes >> 1, -(2**63)).argmax(dim=1, keepdim=True)
        free = free.scatter(1, match, value=False)
        matches.append(match)
    return torch.cat(matches, dim=1)


def edge_strength(image: Tensor, valid: Tensor | None = None) -> Tensor:
    """Magnitude of the image's own gradient by Sobel's operator, without the network.

    The image is continued by its border's values, so that its frame is no edge.

    Args:
        image: Shape ``(B, C, H, W)``.
        valid: False in padding, shape ``(B, 1, H, W)``. A pixel whose neighbourhood holds padding
            has no edge: the step into padding is none of the image's. None takes padding for
            ordinary.

    Returns:
        Shape ``(B, C, H, W)``, in intensity per pixel.

    References:
        Duda and Hart, Pattern classification and scene analysis, 1973, page 271.
    """
    around = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    smooth_rows = around[..., :-2, :] + 2 * around[..., 1:-1, :] + around[..., 2:, :]
    smooth_columns = around[..., :-2] + 2 * around[..., 1:-1] + around[..., 2:]
    across = (smooth_rows[..., 2:] - smooth_rows[..., :-2]) / 8
    down = (smooth_columns[..., 2:, :] - smooth_columns[..., :-2, :]) / 8
    strength = (across**2 + down**2).sqrt()
    if valid is None:
        return strength
    near_padding = functional.max_pool2d((~valid).float(), 3, stride=1, padding=1) > 0
    return strength.masked_fill(near_padding, 0.0)


def _untied(score: Tensor) -> Tensor:
    """Whole numbers in the order of the scores, float32 ``(B, N)``; a tie goes to the lower index.

    As integers, the bits of floating-point numbers rise with them, once those of negative numbers
    are flipped; the index fills the lower half of 64 bits.
    """
    bits = (score + 0.0).view(torch.int32)  # adding makes a zero of minus zero
    rising = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (rising << 32) | torch.arange(score.shape[1] - 1, -1, -1, device=score.device)


def _check_count(count: int, pixels: int) -> None:
    if count > pixels:
        msg = f"{count} pixels to take, but an image has only {pixels}"
        raise ValueError(msg)
