"""A real MLflow server that tests start, kill and start again, and a proxy that troubles it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.places import ROOT, Place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Server:
    """An MLflow server with a SQLite file or another database, and artifacts of its own.

    Attributes:
        place: Whose store it serves; ``place.client`` looks into its database directly.
        backend: Address of the database; the SQLite file of the place where none is given.
    """

    place: Place
    backend: str | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> Path:
        return self.place.folder / "served"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--backend-store-uri", self.backend or self.place.uri]
        command += ["--artifacts-destination", str(self.artifacts)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=self.place.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            time.sleep(0.1)
        msg = f"the server at {self.uri} did not answer; its exit status is {self.process.poll()}"
        raise RuntimeError(msg)

    def kill(self) -> None:
        """End it and its worker as a power cut would."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def files(self, run_id: str) -> dict[str, bytes]:
        """Content of all artifacts of a run, by path."""
        (folder,) = self.artifacts.glob(f"*/{run_id}/artifacts")
        found = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@contextmanager
def served(place: Place, backend: str | None = None) -> Iterator[Server]:
    """A server that answers, killed at the end."""
    server = Server(place, backend)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def train(
    place: Place, uri: str, *arguments: str, wait_s: float = 120, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start ``main.py`` with a server as its store; what it says goes into a file."""
    output = log or place.folder / "log.txt"
    with output.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), *arguments],
            cwd=place.folder,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "MLFLOW_TRACKING_URI": uri,
                "SEGSTRESS_RUNS_DIR": str(place.store),
                "SEGSTRESS_STORE_WAIT": str(wait_s),
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )


class Proxy:
    """Stands between a run and its server: passes on, waits, hangs or breaks off.

    Attributes:
        delay_s: How long an answer is held back.
        hangs: Whether requests are taken and never answered.
    """

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self.hangs = False
        self.connections = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                while self.hangs:
                    time.sleep(0.05)
                if answers:
                    time.sleep(self.delay_s)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
