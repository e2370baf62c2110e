"""A PostgreSQL cluster in a folder, for this machine only and with a password."""

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from composed import LOOPBACK, Place, StackError
from processes import Running, called, complaint, start, wait_until, without_settings


@dataclass(frozen=True)
class Cluster:
    """The PostgreSQL of a place.

    Attributes:
        place: Where it keeps its files and listens.
        programs: Folder of ``initdb``, ``postgres`` and ``psql``.
        user: Whom it runs as; None stands for whoever started this.
        settings: What compose.yaml sets for it: ``POSTGRES_USER`` and so on.
    """

    place: Place
    programs: Path
    user: str | None
    settings: Mapping[str, str]

    def make(self) -> None:
        """Make its files, under another name first, so that they are whole where they are there.

        Raises:
            StackError: If PostgreSQL cannot.
        """
        place, new = self.place, self.place.folder / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=place.folder) as password:
            password.write(self.settings["POSTGRES_PASSWORD"])
            password.flush()
            if self.user is not None:
                shutil.chown(new, self.user)
                shutil.chown(password.name, self.user)
            command = [str(self.programs / "initdb"), "-D", str(new), f"--pwfile={password.name}"]
            command += [f"--username={self.settings['POSTGRES_USER']}", "--no-instructions"]
            command += shlex.split(self.settings["POSTGRES_INITDB_ARGS"])
            ended = called(command, without_settings(), self.user)
        if ended.returncode:
            whom = "" if self.user is None else f", where {self.user} must come in"
            why = complaint(ended.stderr)
            msg = f"{place.folder}: PostgreSQL cannot make its files there{whom}: {why}"
            raise StackError(msg)
        new.rename(place.cluster)

    def start(self) -> Running:
        """Start it without waiting."""
        settings = (
            f"listen_addresses={LOOPBACK}",
            f"port={self.place.database_port}",
            # No socket in the file system: its path may be too long for one.
            "unix_socket_directories=",
        )
        command = [str(self.programs / "postgres"), "-D", str(self.place.cluster)]
        for setting in settings:
            command += ["-c", setting]
        log = self.place.folder / "postgres.log"
        # SIGINT is its fast end: SIGTERM would wait until every client is gone.
        environment = without_settings()
        return start("PostgreSQL", command, environment, log, signal.SIGINT, self.user)

    def wait(self, running: Sequence[Running]) -> None:
        """Wait until the database of compose.yaml answers; it is made if it is not there.

        Raises:
            StackError: If PostgreSQL ends, or has another password.
        """
        name = self.settings["POSTGRES_DB"]

        def ready() -> bool:
            found = self._ask(f"SELECT datname FROM pg_database WHERE datname = '{name}'")
            if "password authentication failed" in found.stderr:
                msg = f"{self.place.env_file}: POSTGRES_PASSWORD is not that of the database; "
                msg += "bring back the one that it was made with"
                raise StackError(msg)
            if found.returncode == 0 and not found.stdout.strip():
                found = self._ask(f'CREATE DATABASE "{name}"')
            return found.returncode == 0

        wait_until(running, ready)

    def _ask(self, statement: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.programs / "psql"), "--no-psqlrc", "--tuples-only", "--no-align"]
        environment = {
            **without_settings(),
            "PGHOST": LOOPBACK,
            "PGPORT": str(self.place.database_port),
            "PGDATABASE": "postgres",
            "PGUSER": self.settings["POSTGRES_USER"],
            "PGPASSWORD": self.settings["POSTGRES_PASSWORD"],
            "PGCONNECT_TIMEOUT": "5",
        }
        return called([*command, "--command", statement], environment)


def find_programs(cluster: Path) -> Path:
    """The folder of PostgreSQL's programs, of the version that made the cluster.

    Raises:
        StackError: If they are not installed.
    """
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders = [folder for folder in folders if (folder / "postgres").exists()]
    if not folders:
        msg = "PostgreSQL: found no initdb; install it (on Debian: apt install postgresql)"
        raise StackError(msg)
    if not cluster.exists():
        return folders[0]
    made_by = (cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
    for folder in folders:
        said = called([str(folder / "postgres"), "--version"], without_settings()).stdout
        if re.search(rf"\) {re.escape(made_by)}\b", said):
            return folder
    msg = f"{cluster}: made by PostgreSQL {made_by}, which is not installed; install that version"
    raise StackError(msg)


def database_user() -> str | None:
    """Whom PostgreSQL runs as where this is root, which it refuses to be."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"
