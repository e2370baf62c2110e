"""Runs the store of compose.yaml on this machine without Docker: PostgreSQL and the MLflow server.

Both run with the settings that compose.yaml gives them; only hosts, ports and paths are put in.
"""

import argparse
import fcntl
import shlex
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from cluster import Cluster, database_user, find_programs
from composed import (
    COMPOSE,
    LOOPBACK,
    Place,
    StackError,
    mlflow_service,
    postgres_settings,
    saved_secrets,
)
from processes import Running, start, wait_until, watch, without_settings

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stop(BaseException):
    """Somebody asked for the end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both until Ctrl-C or SIGTERM.

    Returns:
        0 after that, 1 if one of the two ended by itself, 2 for wrong input.
    """
    options = _parser().parse_args(arguments)
    place = Place(options.folder.absolute(), options.port, options.database_port)
    for number in _ENDS:
        # One that is ignored from the start stays so, as nohup wants it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        with _alone(place):
            return _run(place)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except _Stop:
        return 0


def _run(place: Place) -> int:
    """Start both, say where they are, and wait."""
    programs = find_programs(place.cluster)
    for port in (place.port, place.database_port):
        _check_port(port)
    values = saved_secrets(place)
    cluster = Cluster(place, programs, database_user(), postgres_settings(values))
    service = mlflow_service(place, values)
    if not place.cluster.exists():
        cluster.make()
    running: list[Running] = []
    try:
        running.append(cluster.start())
        cluster.wait(running)
        environment = {**without_settings(), **service.environment}
        log = place.folder / "mlflow.log"
        running.append(start("MLflow", service.command, environment, log, signal.SIGTERM))
        wait_until(running, lambda: _answers(f"{place.address}/health"))
        _print_greeting(place)
        return watch(running)
    finally:
        for number in _ENDS:
            signal.signal(number, signal.SIG_IGN)
        for one in reversed(running):
            one.end()


def _answers(address: str) -> bool:
    # Whatever proxy the environment names is not for this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(urllib.error.URLError, OSError), opener.open(address, timeout=5):
        return True
    return False


def _print_greeting(place: Place) -> None:
    password = f"$(sed -n s/^MLFLOW_AUTH_ADMIN_PASSWORD=//p {shlex.quote(str(place.env_file))})"
    print(
        f"MLflow listens at {place.address}, PostgreSQL at {LOOPBACK}:{place.database_port}.\n"
        f"Data, logs and passwords are in {place.folder}. In other terminals:\n"
        f"  export MLFLOW_TRACKING_URI={place.address}\n"
        f"  export MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD={password}\n"
        "Ctrl-C ends both.",
        flush=True,
    )


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Refuse a second stack in the same folder."""
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        # Whoever may not ask the server may not look into its files either.
        (place.folder / "artifacts").mkdir(mode=0o700, exist_ok=True)
        lock = (place.folder / "lock").open("w")
    except OSError as error:
        msg = f"--folder: {place.folder} cannot be written ({error.strerror}); choose another"
        raise StackError(msg) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            msg = f"{place.folder}: a stack runs there already; use it, or end it first"
            raise StackError(msg) from error
        yield


def _check_port(port: int) -> None:
    try:
        with socket.create_server((LOOPBACK, port)):
            return
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"port {port} on {LOOPBACK} cannot be listened on ({reason}); choose another"
        raise StackError(msg) from error


def _stop(*_: int | FrameType | None) -> None:
    raise _Stop


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run PostgreSQL and the MLflow server of compose.yaml on this machine."
    )
    folder = COMPOSE.parent.parent / "mlruns" / "stack"
    parser.add_argument("--port", type=int, default=5000, help="of MLflow (default: %(default)s)")
    parser.add_argument(
        "--database-port", type=int, default=5433, help="of PostgreSQL (default: %(default)s)"
    )
    parser.add_argument(
        "--folder", type=Path, default=folder, help="of data, logs and passwords (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
