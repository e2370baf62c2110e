"""What Ray reads from the environment when it is imported."""

import os

_SETTINGS = {
    # Nothing about somebody's machine leaves it unless they ask for it.
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C ends a sweep at once; what it interrupts goes on at its next call.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The table here says how far trials are.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# As it does on other systems, Ray then listens on the loopback address alone.
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def prepare_environment(*, local: bool) -> None:
    """Set what is not set; called before Ray is imported.

    Args:
        local: Whether Ray runs on this machine alone.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if local:
        os.environ.setdefault(_LOOPBACK, "0")
