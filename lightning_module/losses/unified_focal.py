"""A focal cross-entropy and a focal Tversky loss in one, which treat background and rest apart."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from lightning_module.losses.overlap import OverlapTerm
from lightning_module.losses.term import masked, masked_mean, number

# A share of wrong pixels below this is none: the power has an infinite slope at 0.
_NONE = 1e-12


class UnifiedFocal(OverlapTerm):
    """Asymmetric unified focal loss: ``w F + (1 - w) T``.

    ``F`` is cross-entropy, with weight ``delta`` on foreground, and ``1 - delta`` and the focus
    ``(1 - p_t)^gamma`` on background. ``T`` is the mean over classes of one minus the Tversky
    index, ``1 - (tp + s) / (tp + delta fn + (1 - delta) fp + s)``, raised to ``1 - gamma`` for
    foreground: background is suppressed, rare classes are enhanced.

    Of sigmoids each class stands against its own background, as in the binary loss of the paper.
    Of a softmax the first class is the background; the column of class k holds ``K`` times its
    part of ``F`` and its part of ``T``, so that the mean over classes is the loss of the paper.
    A class that an image does not hold keeps ``T`` next to its largest value with next to no
    gradient, and ``F`` falls as its predictions vanish.

    Args:
        weight: ``w`` in [0, 1], of the cross-entropy against the Tversky index.
        delta: In [0, 1]: weight of foreground and of false negatives.
        gamma: In [0, 1]: how much easy background is suppressed and rare foreground enhanced.
        smooth: ``s``, in pixels.
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Yeung et al., Unified Focal loss, Computerized Medical Imaging and Graphics 95, 2022:
        the asymmetric variant; 0.5, 0.6 and 0.5 are its values.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> UnifiedFocal()(zero, zero + 1, zero == 0)
        tensor([[0.6110]])
    """

    def __init__(
        self,
        weight: float = 0.5,
        delta: float = 0.6,
        gamma: float = 0.5,
        smooth: float = 1e-7,
        *,
        background: bool = True,
        exclusive: bool = False,
    ) -> None:
        super().__init__(smooth, background=background, exclusive=exclusive)
        self.weight = number("weight", weight, low=0.0, high=1.0)
        self.delta = number("delta", delta, low=0.0, high=1.0)
        self.gamma = number("gamma", gamma, low=0.0, high=1.0)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss of at least 0, shape ``(B, K)``; 0 for an image without valid pixels."""
        parts = self._of_softmax if self.exclusive else self._of_sigmoids
        focal, tversky = parts(logits, target, valid)
        return self.weight * focal + (1 - self.weight) * tversky

    def _of_sigmoids(self, logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        focus = torch.exp(self.gamma * logsigmoid(logits))
        foreground = self.delta * target * logsigmoid(logits)
        background = (1 - self.delta) * (1 - target) * focus * logsigmoid(-logits)
        probs, rest = logits.sigmoid(), (-logits).sigmoid()
        of_foreground = self._enhanced(self._wrong(probs, rest, target, valid))
        of_background = self._wrong(rest, probs, 1 - target, valid)
        return -masked_mean(foreground + background, valid), (of_foreground + of_background) / 2

    def _of_softmax(self, logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        # By its logarithm: the power of 1 - p itself has an infinite slope at p = 1.
        log_rest = logits[:, 1:].logsumexp(1, keepdim=True) - logits.logsumexp(1, keepdim=True)
        log_likelihood = target * log_softmax(logits, 1)
        background = (1 - self.delta) * torch.exp(self.gamma * log_rest) * log_likelihood[:, :1]
        pixels = torch.cat([background, self.delta * log_likelihood[:, 1:]], 1)
        probs = logits.softmax(1)
        wrong = self._wrong(probs, 1 - probs, target, valid)
        tversky = torch.cat([wrong[:, :1], self._enhanced(wrong[:, 1:])], 1)
        return -logits.shape[1] * masked_mean(pixels, valid), tversky

    def _wrong(self, probs: Tensor, rest: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """One minus the Tversky index, without a difference of like numbers, ``(B, K)``."""
        shared = masked(target * probs, valid).sum((2, 3))
        missed = masked(target * rest, valid).sum((2, 3))
        added = masked((1 - target) * probs, valid).sum((2, 3))
        wrong = self.delta * missed + (1 - self.delta) * added
        return wrong / (shared + wrong + self.smooth)

    def _enhanced(self, wrong: Tensor) -> Tensor:
        some = wrong > _NONE
        power = torch.where(some, wrong, torch.ones_like(wrong)).pow(1 - self.gamma)
        return torch.where(some, power, torch.zeros_like(power))
