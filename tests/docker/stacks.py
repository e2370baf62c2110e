"""A real stack that tests start, ask and end, and a look at its processes."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.leftovers import is_running
from tests.places import ROOT
from tests.tracking.servers import free_port

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
# What older servers of this kind let in, and what people try first.
KNOWN = (None, ("admin", "password1234"), ("admin", "password"), ("admin", "admin"), ("admin", ""))
Account = tuple[str, str] | None


@dataclass
class Stack:
    """A stack in a folder of its own, on ports of its own.

    Attributes:
        strangers: What the server said to known passwords from its first answer on.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    database_port: int = field(default_factory=free_port)
    strangers: set[int] = field(default_factory=set)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> tuple[str, str]:
        return "admin", self.secrets["MLFLOW_AUTH_ADMIN_PASSWORD"]

    @property
    def secrets(self) -> dict[str, str]:
        lines = (self.folder / ".env").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text(encoding="utf-8")

    def command(self, **changed: object) -> list[str]:
        options = {
            "port": self.port,
            "database-port": self.database_port,
            "folder": self.folder,
            **changed,
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        return [sys.executable, str(ROOT / "docker" / "stack.py"), *flags]

    def start(self) -> None:
        """Start it, try known passwords all the while, and wait until it is ready."""
        with (self.folder / "said.txt").open("wb") as said:
            self.process = subprocess.Popen(
                self.command(),
                # What a user set for themselves must not reach the servers.
                env={**os.environ, "PGPORT": "1", "MLFLOW_AUTH_ADMIN_PASSWORD": "user-own-value"},
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 200
        while "Ctrl-C" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            self.strangers |= {status for one in KNOWN if (status := self.status(account=one))}
            time.sleep(0.05)
        self.strangers |= {self.status(account=one) for one in KNOWN}

    def end(self, number: signal.Signals) -> int:
        """Send it a signal; its exit status, once nothing of it is left."""
        assert self.process is not None
        family = descendants(self.process.pid)
        assert len(family) > 4
        self.process.send_signal(number)
        status = self.process.wait(90)
        deadline = time.monotonic() + 60
        while left := {pid: line for pid, line in family.items() if is_running(pid)}:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        return status

    def status(
        self,
        path: str = SEARCH,
        *,
        account: Account,
        headers: dict[str, str] | None = None,
        body: dict[str, str] | None = None,
    ) -> int:
        """The status of an answer; 0 where nobody listens yet."""
        request = urllib.request.Request(self.address + path, headers=headers or {})
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if account is not None:
            word = base64.b64encode(":".join(account).encode()).decode()
            request.add_header("Authorization", f"Basic {word}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except (urllib.error.URLError, ConnectionError):
            return 0


def descendants(pid: int) -> dict[int, str]:
    """All processes that a process started, itself included, with their commands."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1]), command
    found = {pid}
    while more := {one for one, (parent, _) in parents.items() if parent in found} - found:
        found |= more
    return {one: parents[one][1] for one in found}


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """Addresses and ports on which some processes listen for TCP."""
    inodes = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(file.readlink()))
            except OSError:
                continue
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path(f"/proc/net/{table}")
        for line in path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                host, port = words[1].split(":")
                raw = bytes.fromhex(host)
                groups = [raw[start : start + 4][::-1] for start in range(0, len(raw), 4)]
                found.add((socket.inet_ntop(family, b"".join(groups)), int(port, 16)))
    return found
