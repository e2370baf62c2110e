"""A private PostgreSQL cluster in a folder of its own, on this machine only."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tracking.servers import free_port


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL server, its socket and files in one folder."""

    folder: Path
    port: int
    binaries: Path
    user: str | None  # PostgreSQL does not run as root

    @property
    def uri(self) -> str:
        return f"postgresql://segstress@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        self._run("initdb", "-U", "segstress", "-A", "trust", "--no-sync", "--no-instructions")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self.folder}"
        log = str(self.folder / "log.txt")
        self._run("pg_ctl", "start", "--wait", "--silent", "-l", log, "-o", options)

    def stop(self) -> None:
        """Break off all connections at once, as a crash does; the next start recovers."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode=immediate")

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self.binaries / name), *arguments, "-D", str(self.folder / "data")]
        ended = subprocess.run(
            command,
            user=self.user,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if ended.returncode:
            msg = f"{name} failed: {ended.stderr.strip()}"
            raise RuntimeError(msg)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that answers, gone at the end; skips the test where there can be none."""
    binaries = postgres_binaries()
    # Not among pytest's folders, into which no other user can look.
    with tempfile.TemporaryDirectory(prefix="segstress-pg-") as scratch:
        folder, user = Path(scratch), None
        if os.geteuid() == 0:
            user = _other_user()
            shutil.chown(folder, user)
        made = Cluster(folder, free_port(), binaries, user)
        made.create()
        made.start()
        try:
            yield made
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                made.stop()


def postgres_binaries() -> Path:
    """The folder of PostgreSQL's programs; skips the test where there are none."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if found is None and not folders:
        pytest.skip("PostgreSQL is not installed: initdb was not found")
    return folders[-1] if found is None else Path(found).parent


def _other_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
