"""Keeps off the terminal what libraries tell their developers and nobody there can mend."""

import logging
import warnings

# Message as a regular expression, each with the reason why it says nothing to a user.
_WARNINGS = (
    # The arguments are those of the command line: main.py looks at the command first.
    "LightningCLI's args parameter is intended",
    # Lightning 2.6 calls torch and jsonargparse by names that their next versions drop.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"(?s).*JsonargparseDeprecationWarning",
    r"(?s)\s*``(ArgumentParser.add_instantiator|instantiate_classes)`` was deprecated",
    r"(?s)\s*skip_none parameter was deprecated",
    # Metrics are logged once an epoch, whatever log_every_n_steps says.
    "The number of training batches .* is smaller than the logging interval",
    # Slices are read from memory maps in far less time than a step takes.
    "The '.*' does not have many workers",
    # An evaluation keeps no checkpoints, and so needs nothing of the callbacks that do.
    "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    # Resuming writes into the run's own folder.
    "Checkpoint directory .* exists and is not empty",
)
# Lightning's advertisements, and its remarks on processes that are not there.
_LOG_LINES = (
    "litlogger",
    "Seed set to",
    "GPU available",
    "litmodels",
    "TPU available",
    "to estimate number of stepping batches",
)


def quiet_libraries() -> None:
    """Silence these warnings and log lines, and no others, for the rest of the process."""
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_is_for_users)


def _is_for_users(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return not any(words in text for words in _LOG_LINES)
