"""Only what nobody at the terminal can mend is kept off it."""

import logging
import warnings

import pytest

from commands.quiet import quiet_libraries


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("LightningCLI's args parameter is intended to run from within Python", False),
        ("The number of training batches (6) is smaller than the logging interval", False),
        ("The 'train_dataloader' does not have many workers which may be a bottleneck", False),
        ("GPU available but not used", True),
        ("The run holds other values of 3 metrics", True),
        ("overflow encountered in multiply", True),
    ],
)
def test_warnings(message: str, shown: bool) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quiet_libraries()
        warnings.warn(message, UserWarning, stacklevel=1)
    assert bool(seen) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("TPU available: False, using: 0 TPU cores", False),
        ("GPU available: False, used: False", False),  # the opening line names the device
        ("Seed set to 0", False),
        ("`Trainer.fit` stopped: `max_epochs=2` reached.", True),
    ],
)
def test_log_lines(line: str, shown: bool, caplog: pytest.LogCaptureFixture) -> None:
    quiet_libraries()
    quiet_libraries()
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger("lightning.pytorch.utilities.rank_zero").info(line)
    assert (line in caplog.text) == shown
