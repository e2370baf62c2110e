"""Losses that bound or learn what a wrongly labelled pixel may weigh."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from lightning_module.losses.term import Term, masked, masked_mean, number

# Keeps the degrees of freedom above 0, as in the authors' code.
_LEAST_NU = 1e-8


class MeanSquaredError(Term):
    """Mean over pixels of ``(p - y)^2``, the Brier score of each class.

    References:
        Brier, Verification of forecasts expressed in terms of probability, 1950.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> MeanSquaredError()(zero, zero, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.2500]])
    """

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in [0, 1], shape ``(B, K)``; 0 for an image without valid pixels."""
        return masked_mean((self.probabilities(logits) - target).square(), valid)


class LikelihoodTerm(Term):
    """Mean over pixels of a function of ``p_t``, the probability given to the truth.

    Of sigmoids ``p_t`` is ``p`` or ``1 - p``. Of a softmax the column of class k is K times the
    function in pixels of that class, so that the mean over classes is the mean over pixels.
    """

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; 0 for an image without valid pixels."""
        if self.exclusive:
            pixels = logits.shape[1] * target * self.of_log_likelihood(log_softmax(logits, 1))
        else:
            pixels = self.of_log_likelihood(-self.negative_log_likelihood(logits, target))
        return masked_mean(pixels, valid)

    @abstractmethod
    def of_log_likelihood(self, log_p: Tensor) -> Tensor:
        """The function, of ``log p_t`` in each pixel."""


class SymmetricCrossEntropy(LikelihoodTerm):
    """Mean of ``-alpha log p_t - beta A (1 - p_t)``: cross-entropy and its reverse.

    The reverse ``-sum(p log y)`` has the prediction for truth and ``A`` for the logarithm of 0; of
    masks of 0 and 1 it is ``-A (1 - p_t)``, which noise in the labels does not mislead.

    Args:
        alpha: Weight of cross-entropy, at least 0.
        beta: Weight of reverse cross-entropy, at least 0.
        log_zero: ``A``, in [-100, 0].
        exclusive: See ``Term``.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Wang et al., Symmetric cross entropy for robust learning with noisy labels, ICCV 2019;
        the weights are those for CIFAR-10.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> SymmetricCrossEntropy()(zero, zero, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[2.0693]])
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 1.0,
        log_zero: float = -4.0,
        *,
        exclusive: bool = False,
    ) -> None:
        super().__init__(exclusive=exclusive)
        self.alpha = number("alpha", alpha, low=0.0)
        self.beta = number("beta", beta, low=0.0)
        if self.alpha == self.beta == 0:
            msg = "alpha and beta: found 0 twice, expected one above 0"
            raise ValueError(msg)
        self.log_zero = number("log_zero", log_zero, low=-100.0, high=0.0)

    def of_log_likelihood(self, log_p: Tensor) -> Tensor:
        """``-alpha log p_t - beta A (1 - p_t)``."""
        return self.beta * self.log_zero * log_p.expm1() - self.alpha * log_p


class GeneralizedCrossEntropy(LikelihoodTerm):
    """Mean of ``(1 - p_t^q) / q``, between cross-entropy (q to 0) and absolute error (q = 1).

    Args:
        q: In (0, 1]; a wrongly labelled pixel costs at most ``1 / q``.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``q`` is out of range.

    References:
        Zhang and Sabuncu, Generalized cross entropy loss for training deep neural networks with
        noisy labels, NeurIPS 2018, equation 6.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> GeneralizedCrossEntropy()(zero, zero, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.5492]])
    """

    def __init__(self, q: float = 0.7, *, exclusive: bool = False) -> None:
        super().__init__(exclusive=exclusive)
        self.q = number("q", q, low=1e-6, high=1.0)

    def of_log_likelihood(self, log_p: Tensor) -> Tensor:
        """``(1 - p_t^q) / q``, by its logarithm: next to ``p_t = 1`` the power loses digits."""
        return -(self.q * log_p).expm1() / self.q


class TLoss(Term):
    """Negative log-likelihood of an image's errors under a Student-t that learns its tails.

    ``-lgamma((v + D) / 2) + lgamma(v / 2) + D / 2 log(pi v) + (v + D) / 2 log(1 + S / v)`` with
    ``S = sum((p - y)^2)`` over the D valid pixels of an image and ``v = exp(log_nu) + 1e-8``
    degrees of freedom, one number for all classes. The fewer they are, the less does an image pull
    whose errors are large. The scale matrix is the identity.

    It is no mean over pixels: it grows with D, and is negative for images of 40 pixels and more
    that fit. Beside other terms give it a weight of about 1 / D.

    Args:
        log_nu: Logarithm of the degrees of freedom at the start, in [-10, 10].
        exclusive: See ``Term``.

    Attributes:
        log_nu: Their logarithm, a parameter.

    Raises:
        ValueError: If ``log_nu`` is out of range.

    References:
        Gonzalez-Jimenez et al., Robust T-loss for medical image segmentation, MICCAI 2023.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> TLoss(log_nu=0)(zero, zero, torch.ones(1, 1, 2, 2, dtype=torch.bool)).detach()
        tensor([[4.3100]])
    """

    def __init__(self, log_nu: float = 1.0, *, exclusive: bool = False) -> None:
        super().__init__(exclusive=exclusive)
        start = number("log_nu", log_nu, low=-10.0, high=10.0)
        self.log_nu = nn.Parameter(torch.tensor(start))

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; 0 for an image without valid pixels."""
        errors = masked((self.probabilities(logits) - target).square(), valid).sum((2, 3))
        nu = self.log_nu.to(logits.dtype).exp() + _LEAST_NU
        pixels = valid.sum((2, 3)).to(logits.dtype)
        half = (nu + pixels) / 2
        volume = (nu / 2).lgamma() - half.lgamma() + pixels / 2 * (math.pi * nu).log()
        return volume + half * (errors / nu).log1p()
