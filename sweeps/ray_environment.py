"""What Ray reads from the environment when it is imported."""

import os
import socket

from errors import InputError

_SECONDS_TO_ANSWER = 5.0
_SETTINGS = {
    # Nothing about somebody's machine leaves it unless they ask for it.
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C ends a sweep at once; what it interrupts goes on at its next call.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The table here says how far trials are.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would kill at once what looks after a trial, which gives it time to end.
    "RAY_kill_child_processes_on_worker_exit": "false",
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


def check_address(address: str) -> None:
    """See that something answers at the address of a cluster; Ray itself would wait for minutes.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT`` or ``auto``.

    Raises:
        InputError: If it is none of these, or nothing answers there.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        msg = f"--address: found {address}, expected auto or HOST:PORT; give a Ray cluster's"
        raise InputError(msg)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER):
            return
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"--address {address}: nothing answers there ({reason}); check the address"
        raise InputError(msg) from error
