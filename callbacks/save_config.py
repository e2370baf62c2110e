"""Stores the whole configuration of a command with its run."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from callbacks.run_state import run_logger


class SaveConfig(SaveConfigCallback):
    """Writes the YAML that would repeat the command as the artifact ``config/<command>.yaml``."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the YAML to the run; without a run there is nowhere to keep it."""
        logger = run_logger(trainer)
        if logger is None:
            return
        text = self.parser.dump(self.config, skip_none=False)
        logger.log_text(
            text, f"config/{trainer.state.fn.value if trainer.state.fn else stage}.yaml"
        )
