"""Keeps apart what a network was trained on and what it is scored on, whatever options say."""

from collections.abc import Collection
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from errors import InputError

TRAINED_KEY = "segstress_trained_on"
_SPLIT_OF = {"validate": "val", "test": "test", "predict": "test"}
_MOST_NAMES = 3


class TrainedCases(Callback):
    """Writes the names of the training cases into each checkpoint, and holds later splits to them.

    Args:
        known: Names that the checkpoint at hand has; none where it has none.
    """

    def __init__(self, known: Collection[str] = ()) -> None:
        self.known = frozenset(known)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the split with the checkpoint's.

        Raises:
            InputError: If cases that trained the network would score it, or a training would go on
                with other cases.
        """
        data: Any = getattr(trainer, "datamodule", None)
        if not self.known or not hasattr(data, "split_cases") or getattr(data, "overlap", False):
            return
        if stage == "fit":
            changed = self.known ^ set(data.split_cases("train"))
            if changed:
                msg = (
                    f"--ckpt_path: found other training cases than it was trained on "
                    f"({_some(changed)}), expected the same; give the same options and data, or "
                    "begin a new run"
                )
                raise InputError(msg)
            return
        leaked = self.known & set(data.split_cases(_SPLIT_OF[stage]))
        if leaked:
            msg = (
                f"--ckpt_path: found {len(leaked)} cases in the {_SPLIT_OF[stage]} set that the "
                f"network was trained on ({_some(leaked)}), expected none; leave out the options "
                "of the split, and use the data that it was trained with"
            )
            raise InputError(msg)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the names."""
        data: Any = getattr(trainer, "datamodule", None)
        if hasattr(data, "split_cases"):
            checkpoint[TRAINED_KEY] = list(data.split_cases("train"))


def _some(cases: Collection[str]) -> str:
    names = sorted(cases)
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
