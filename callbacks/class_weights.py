"""Finds the weights of classes in the training masks, where a rule asks for it."""

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.progress import say
from errors import InputError
from lightning_module.losses.class_weights import class_weights_by


class ClassWeights(Callback):
    """Gives a module whose ``weight_rule`` is set the weights that the rule finds.

    It stands before ``RunState``, so that masks which a rule cannot be applied to are refused
    before a run is opened. The setup of a module would come too late for that.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Weigh the classes of a training.

        Raises:
            InputError: If the data cannot tell how often classes occur, or a class never does.
        """
        module: Any = pl_module
        rule = getattr(module, "weight_rule", None)
        if rule is None or stage != "fit":
            return
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "class_areas"):
            msg = (
                f"--model.class_weights: found {rule}, but the data cannot tell how often classes "
                "occur; give a list of weights"
            )
            raise InputError(msg)
        areas, pixels = data.class_areas("train", padding=module.count_padding)
        if module.exclusive:
            areas = np.concatenate([(pixels - areas.sum(1))[:, np.newaxis], areas], axis=1)
        weights = class_weights_by(rule, areas, pixels, module.loss_class_names)
        named = zip(module.loss_class_names, weights, strict=True)
        say(
            trainer,
            f"class weights by {rule}: " + ", ".join(f"{name} {w:.3g}" for name, w in named),
        )
        module.loss.set_class_weights(weights)
