"""What compose.yaml and the Dockerfile start is closed to others, pinned, and known to MLflow."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import environment_variables

from tests.docker.loading import DOCKER, compose
from tests.places import ROOT

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")
REQUIRED = re.compile(r"^\$\{(\w+):\?[^}]+\}$")
PINNED = re.compile(r"^[a-z]+:\d+\.\d+(\.\d+)?-[a-z-]+$")


def stages() -> Iterator[tuple[str, str, str]]:
    """Base, name and lines of each stage of the Dockerfile."""
    for text in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]:
        first, _, lines = text.partition("\n")
        base, _, name = first.partition(" AS ")
        yield base, name, lines


def example() -> dict[str, str]:
    lines = (DOCKER / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if re.match(r"#?[A-Z_]+=", line))
    return {name: value for name, _, value in pairs}


def variables() -> set[str]:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    return set(re.findall(r"\$\{(\w+)", text))


def test_the_services_are_those_of_a_team() -> None:
    assert set(SERVICES) == {"postgres", "mlflow", "worker", "worker-gpu"}


def test_ports_are_published_on_this_machine_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(str(port).startswith("127.0.0.1:") for port in published)
    assert "ports" not in SERVICES["postgres"]
    assert compose()["networks"]["database"]["internal"] is True
    assert SERVICES["postgres"]["networks"] == ["database"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_stands_in_the_file(name: str) -> None:
    for key, value in SERVICES[name]["environment"].items():
        if SECRET.search(key):
            assert REQUIRED.match(value), f"{key} of {name}"


def test_the_example_lists_every_variable_and_gives_no_secret() -> None:
    listed = example()
    assert {name.lstrip("#") for name in listed} == variables()
    secret = {name: value for name, value in listed.items() if SECRET.search(name)}
    assert len(secret) == 4
    assert set(secret.values()) == {""}


def test_git_and_the_build_leave_the_secrets_alone() -> None:
    assert "/docker/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "docker/.env" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_not_root(name: str) -> None:
    service = SERVICES[name]
    assert "build" in service or PINNED.match(service["image"])
    user = re.sub(r"^\$\{\w+:-(.+)\}$", r"\1", str(service["user"]))
    assert user.split(":")[0] not in {"", "root", "0"}
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", ["postgres", "mlflow"])
def test_a_server_is_watched_and_comes_back(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize(("name", "first"), [("mlflow", "postgres"), ("worker", "mlflow")])
def test_nobody_starts_before_what_they_need(name: str, first: str) -> None:
    assert SERVICES[name]["depends_on"] == {first: {"condition": "service_healthy"}}


def test_the_worker_cannot_change_the_data() -> None:
    for name in ("worker", "worker-gpu"):
        assert SERVICES[name]["profiles"] == ["worker"]
        assert any(volume.endswith(":/data:ro") for volume in SERVICES[name]["volumes"])


def test_images_are_built_from_pinned_ones_and_run_as_nobody_special() -> None:
    names = {name for _, name, _ in stages()}
    for base, _, _ in stages():
        assert base in names or PINNED.match(base), base
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == {"mlflow", "worker"}
    for _, name, lines in stages():
        if name in targets:
            users = re.findall(r"^USER (\w+)$", lines, flags=re.MULTILINE)
            assert users, name
            assert users[-1] not in {"root", "0"}
    # `docker build` without a target builds the last one.
    assert list(stages())[-1][1] == "worker"


def test_the_worker_holds_every_part_of_the_house() -> None:
    copied = set(re.findall(r"^COPY (\w+)/ \1/$", DOCKERFILE, flags=re.MULTILINE))
    parts = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert copied == parts | {"conf"}


def test_packages_come_from_the_lock() -> None:
    installs = re.findall(r"pip install (.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert len(installs) == 3
    for install in installs:
        assert "--constraint requirements.lock" in install or "--requirement torch.lock" in install


def test_mlflow_knows_every_option_and_variable() -> None:
    words = SERVICES["mlflow"]["command"]
    assert words[:2] == ["mlflow", "server"]
    said = subprocess.run(
        [sys.executable, "-m", *words[:2], "--help"], check=True, capture_output=True, text=True
    )
    known = set(re.findall(r"--[a-z-]+", said.stdout))
    given = {word.partition("=")[0] for word in words[2:]}
    assert given <= known
    assert {"--artifacts-destination", "--app-name", "--allowed-hosts"} <= given
    for service in SERVICES.values():
        for name in service["environment"]:
            assert not name.startswith("MLFLOW_") or hasattr(environment_variables, name), name
    assert SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_accounts_are_set_as_mlflow_reads_them() -> None:
    ours = configparser.ConfigParser()
    assert ours.read(DOCKER / "basic_auth.ini")
    shipped = Path(mlflow.__file__).parent / "server" / "auth" / "basic_auth.ini"
    # Some settings stand there as comments.
    known = re.findall(r"^(?:# )?(\w+) =", shipped.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(ours["mlflow"]) <= set(known)
    assert ours["mlflow"]["database_uri"] == "postgresql://"
    assert "admin_password" not in ours["mlflow"]
    # Without it every request waits for three slow hashes; a deleted account is good for as long.
    assert 0 < ours["mlflow"].getint("auth_cache_ttl_seconds", fallback=0) <= 60
    mounted = SERVICES["mlflow"]["environment"]["MLFLOW_AUTH_CONFIG_PATH"]
    assert f"./basic_auth.ini:{mounted}:ro" in SERVICES["mlflow"]["volumes"]


def test_named_volumes_are_declared() -> None:
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service["volumes"]
        if re.match(r"\w+:", volume)
    }
    assert used == set(compose()["volumes"])


def test_make_runs_the_script() -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "--no-print-directory", "--dry-run", "stack", "PORT=5001"]
    said = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    assert "docker/stack.py --port 5001" in said.stdout


def test_docker_reads_the_file() -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    client = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if client.returncode:
        pytest.skip("this docker has no compose")
    filled = {name.lstrip("#"): value or "made-up-value" for name, value in example().items()}
    said = subprocess.run(
        ["docker", "compose", "--file", str(DOCKER / "compose.yaml"), "config", "--quiet"],
        env={**os.environ, **filled},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
