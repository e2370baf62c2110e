"""Opens the store of runs in MLflow's user interface."""

import subprocess
from collections.abc import Sequence

from commands.options import CommandParser


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
    from tracking.server import ui_command  # noqa: PLC0415
    from tracking.store import tracking_uri  # noqa: PLC0415

    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        print(f"The runs are on a server already: open {uri}")
        return 0
    command, environment = ui_command(options.host, options.port)
    print(
        f"Runs of {uri}\n"
        f"Open http://{options.host}:{options.port}/#/experiments?workflowType=machine_learning "
        "(Ctrl-C ends)",
        flush=True,
    )
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "ui",
        "Serve the store of runs (MLFLOW_TRACKING_URI, or mlruns/mlflow.db) on this "
        "machine, and print the address to open in a browser.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=5000, help="port (default: %(default)s)")
    return parser
