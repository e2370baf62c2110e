"""The contract of an attribution method: what it says about itself and what it is given."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch, Passes
from robustness.objectives import Objective

# Units of maps.
OBJECTIVE = "{}"
PER_INTENSITY = "d({}) / d(intensity)"


@dataclass(frozen=True)
class Attribution(ABC):
    """Says how much each entry of an image adds to an objective.

    Attributes:
        name: What the method is called in tables and pictures.
        unit: Of its maps, with ``{}`` where the objective stands.
    """

    name: ClassVar[str]
    unit: ClassVar[str]

    @property
    def signed(self) -> bool:
        """False where maps are never below 0."""
        return True

    @property
    def contributes(self) -> bool:
        """Whether maps are contributions to the objective, and not changes by intensity."""
        return self.unit == OBJECTIVE

    def settings(self) -> dict[str, Any]:
        """Name and settings as plain values, to be stored with maps."""
        return {"method": self.name, **asdict(self)}

    @abstractmethod
    def passes(self, height: int, width: int) -> Passes:
        """Passes through the network for each slice of some size, in pixels."""

    @abstractmethod
    def attribute(
        self, network: nn.Module, batch: AttackBatch, objective: Objective, seed: int
    ) -> Tensor:
        """Maps of a batch; called through :func:`robustness.attribution.explain`.

        Args:
            network: The modules behind ``batch.forward``, in evaluation mode.
            batch: The clean slices.
            objective: What is explained, one scalar per slice.
            seed: The seed of random numbers.

        Returns:
            Shape ``(B, C, H, W)``, float32.
        """

    def refuse(self, what: str, found: object, expected: str) -> NoReturn:
        """Raise ValueError on a setting or a network that the method cannot work with."""
        msg = f"{self.name}: {what} is {found}, expected {expected}"
        raise ValueError(msg)

    def check_at_least(self, what: str, found: float, least: float) -> None:
        """Refuse a number below the least one that makes sense; NaN too.

        Raises:
            ValueError: If it is below.
        """
        if not least <= found < float("inf"):
            self.refuse(what, found, f"a finite number of {least} or more")


def baseline_image(batch: AttackBatch, level: float, *, valid_only: bool) -> Tensor:
    """The image that stands for nothing: one level everywhere, or everywhere but in the padding.

    Args:
        batch: The clean slices.
        level: In image intensity.
        valid_only: Whether padding keeps its own values, so that it cannot add anything.

    Returns:
        Shape ``(B, C, H, W)``.
    """
    blank = torch.full_like(batch.image, level)
    return torch.where(batch.valid, blank, batch.image) if valid_only else blank
