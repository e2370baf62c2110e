"""Opens the store of runs in MLflow's user interface, on the dashboards of its experiments."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Mapping, Sequence

from commands.options import CommandParser
from errors import InputError

_PATIENCE_S = 120.0  # a server on a busy machine starts within this


def main(arguments: Sequence[str]) -> int:
    """Serve the store until interrupted.

    Args:
        arguments: What stands after ``ui`` on the command line.

    Returns:
        The exit status of the server; 0 after Ctrl-C.

    Raises:
        InputError: If an option or the store is not as expected.
    """
    options = _parser().parse_args(arguments)
    # Imported late, so that --help answers at once.
    from sweeps.minder import minded  # noqa: PLC0415
    from tracking.dashboards import publish_store  # noqa: PLC0415
    from tracking.server import ui_command  # noqa: PLC0415
    from tracking.store import tracking_uri  # noqa: PLC0415

    uri = tracking_uri()
    served = uri.startswith(("http://", "https://"))
    shown = "127.0.0.1" if options.host in {"0.0.0.0", "::"} else options.host
    server = uri.rstrip("/") if served else f"http://{shown}:{options.port}"
    if not served:
        _check_port(options.host, options.port)
    dashboards = publish_store(server)
    for experiment, views in dashboards.items():
        print(f"Dashboards of {experiment}")
        width = max(map(len, views))
        for name, address in views.items():
            print(f"  {name:<{width}}  {address}")
    addresses = [address for views in dashboards.values() for address in views.values()]
    everything = f"{server}/#/experiments?workflowType=machine_learning"
    start = addresses[0] if addresses else everything
    opens = options.browser and _has_screen()
    if served:
        print(f"The runs are on a server already: open {everything}")
        if opens:
            webbrowser.open(start)
        return 0
    command, environment = ui_command(options.host, options.port)
    print(f"Runs of {uri}\nOpen {everything} (Ctrl-C ends)", flush=True)
    if opens:
        threading.Thread(target=_open_once_up, args=(server, start), daemon=True).start()
    return _serve(minded(command), environment)


def _serve(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the server out of the terminal's reach, whose Ctrl-C it would answer with tracebacks."""
    server = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        return server.wait()
    except KeyboardInterrupt:
        # It is ending; an impatient second one could only leave it behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return 0
    finally:
        if server.stdin is not None:
            server.stdin.close()
        server.wait()


def _check_port(host: str, port: int) -> None:
    """Refuse a port where the server could not listen; it would end with status 0."""
    try:
        with socket.create_server((host, port)):
            return
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"--port: {port} on {host} cannot be listened on ({reason}); choose another"
        raise InputError(msg) from error


def _open_once_up(server: str, address: str) -> None:
    """Open a browser when the server answers."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{server}/health", timeout=5):
                webbrowser.open(address)
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)


def _has_screen() -> bool:
    """Whether a browser has somewhere to open; one in the terminal would take it over."""
    if sys.platform in {"darwin", "win32"}:
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _parser() -> CommandParser:
    parser = CommandParser(
        "ui",
        "Serve the store of runs (MLFLOW_TRACKING_URI, or mlruns/mlflow.db) on this machine, print "
        "the addresses of its dashboards, and open the first one in a browser.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=5000, help="port (default: %(default)s)")
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="print addresses, open nothing"
    )
    return parser
