"""What compose.yaml says of the store of a team, for a machine without Docker.

Its commands, environments and secrets are taken as they are; hosts, ports and paths are put in.
"""

import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).resolve().parent / "compose.yaml"
LOOPBACK = "127.0.0.1"
# ${NAME}, ${NAME:-what holds without it} and ${NAME:?what to do without it}
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")


class StackError(Exception):
    """What a user can mend, in one line."""


@dataclass(frozen=True)
class Place:
    """Where the stack of this machine keeps its files and listens.

    Attributes:
        folder: Holds the cluster, the artifacts, the logs and ``.env``.
        port: Where the MLflow server listens.
        database_port: Where PostgreSQL listens.
    """

    folder: Path
    port: int
    database_port: int

    @property
    def env_file(self) -> Path:
        """Names and values of the secrets, a line each."""
        return self.folder / ".env"

    @property
    def cluster(self) -> Path:
        """The files of PostgreSQL; they are whole where they are there."""
        return self.folder / "postgres"

    @property
    def address(self) -> str:
        """Of the MLflow server."""
        return f"http://{LOOPBACK}:{self.port}"


@dataclass(frozen=True)
class Service:
    """A service of compose.yaml as it runs on this machine."""

    command: list[str]
    environment: dict[str, str]


def services() -> dict[str, Any]:
    """The services of compose.yaml that run here, with their variables still in them."""
    found = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return {name: found[name] for name in ("postgres", "mlflow")}


def mlflow_service(place: Place, values: Mapping[str, str]) -> Service:
    """The command and environment that compose.yaml gives its MLflow server, for this machine."""
    service = services()["mlflow"]
    values = {**values, "MLFLOW_PORT": str(place.port)}
    paths = dict(_host_paths(service["volumes"], place))
    words = [_placed(interpolated(word, values), paths) for word in service["command"]]
    here = {"--host": LOOPBACK, "--port": str(place.port)}
    for index, word in enumerate(words):
        option = word.partition("=")[0]
        if option in here:
            words[index] = f"{option}={here[option]}"
    environment = {
        name: _placed(interpolated(value, values), paths)
        for name, value in service["environment"].items()
    }
    environment |= {"PGHOST": LOOPBACK, "PGPORT": str(place.database_port)}
    return Service([sys.executable, "-m", *words], environment)


def postgres_settings(values: Mapping[str, str]) -> dict[str, str]:
    """User, database, password and way of making them that compose.yaml gives its PostgreSQL."""
    found = services()["postgres"]["environment"]
    return {name: interpolated(value, values) for name, value in found.items()}


def saved_secrets(place: Place) -> dict[str, str]:
    """The values of ``.env``; at the first start the secrets are made and written.

    Raises:
        StackError: If they are lost, and the database that they open is not.
    """
    text = place.env_file.read_text(encoding="utf-8") if place.env_file.exists() else ""
    lines = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    values = {name.strip(): value.strip() for name, _, value in lines if value}
    missing = sorted(required_names(services()) - values.keys())
    if missing and place.cluster.exists():
        msg = (
            f"{place.env_file}: found no {', '.join(missing)}, expected what the database beside "
            f"it was made with; bring the file back, or move {place.folder} away to begin anew"
        )
        raise StackError(msg)
    made = {name: secrets.token_hex(24) for name in missing}
    if made:
        with open(place.env_file, "a", opener=_private, encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in made.items())
    return values | made


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """A string of compose.yaml with its variables put in.

    Raises:
        StackError: If a required one is missing.
    """

    def value(match: re.Match[str]) -> str:
        name, found = match["name"], values.get(match["name"], "")
        if not found and match["kind"] == "?":
            msg = f"{name}: not set; {match['text']}"
            raise StackError(msg)
        return found or match["text"] or ""

    return _VARIABLE.sub(value, text)


def required_names(node: object) -> set[str]:
    """Variables that a part of compose.yaml cannot do without: its secrets."""
    if isinstance(node, dict):
        return set().union(*map(required_names, node.values()))
    if isinstance(node, list):
        return set().union(*map(required_names, node))
    return {match["name"] for match in _VARIABLE.finditer(str(node)) if match["kind"] == "?"}


def _host_paths(volumes: Sequence[str], place: Place) -> Iterator[tuple[str, str]]:
    """What stands here for each path in the container: a file beside compose.yaml, or a folder."""
    for volume in volumes:
        source, target = volume.split(":")[:2]
        beside = source.startswith(".")
        yield target, str((COMPOSE.parent if beside else place.folder) / source)


def _placed(word: str, paths: Mapping[str, str]) -> str:
    option, equals, value = word.rpartition("=")
    return f"{option}{equals}{paths.get(value, value)}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
