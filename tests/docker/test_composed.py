"""The stack of this machine is that of compose.yaml, but for hosts, ports and paths."""

import stat
import sys
from pathlib import Path

import pytest

from tests.docker.loading import DOCKER, compose, composed

COMPOSED = composed()
VALUES = {
    "POSTGRES_PASSWORD": "one",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "two",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "three",
}


def test_the_server_has_the_command_of_compose(tmp_path: Path) -> None:
    words = compose()["services"]["mlflow"]["command"]
    service = COMPOSED.mlflow_service(COMPOSED.Place(tmp_path, 5001, 5434), VALUES)
    here = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": "--port=5001",
        "--artifacts-destination=/artifacts": f"--artifacts-destination={tmp_path}/artifacts",
    }
    assert set(here) <= set(words)
    expected = [here.get(word, word) for word in words]
    expected = [word.replace("${MLFLOW_PORT:-5000}", "5001") for word in expected]
    expected = [word.replace("${MLFLOW_HOST:-localhost}", "localhost") for word in expected]
    assert service.command == [sys.executable, "-m", *expected]


def test_the_server_has_the_environment_of_compose(tmp_path: Path) -> None:
    theirs = compose()["services"]["mlflow"]["environment"]
    ours = COMPOSED.mlflow_service(COMPOSED.Place(tmp_path, 5001, 5434), VALUES).environment
    changed = {
        "PGHOST": "127.0.0.1",
        "PGPORT": "5434",
        "PGPASSWORD": "one",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "two",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "three",
        "MLFLOW_AUTH_CONFIG_PATH": str(DOCKER / "basic_auth.ini"),
    }
    assert ours == {**theirs, **changed}


def test_a_name_behind_a_proxy_is_let_in(tmp_path: Path) -> None:
    values = {**VALUES, "MLFLOW_HOST": "mlflow.example.org"}
    command = COMPOSED.mlflow_service(COMPOSED.Place(tmp_path, 5001, 5434), values).command
    hosts = "localhost:5001,127.0.0.1:5001,mlflow:5000,mlflow.example.org"
    assert f"--allowed-hosts={hosts}" in command
    assert "--cors-allowed-origins=https://mlflow.example.org" in command


def test_the_database_is_that_of_compose() -> None:
    theirs = compose()["services"]["postgres"]["environment"]
    assert COMPOSED.postgres_settings(VALUES) == {**theirs, "POSTGRES_PASSWORD": "one"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain $5", "plain $5"),
        ("${A}", "a"),
        ("${A:-b}", "a"),
        ("${NONE:-b}", "b"),
        ("${EMPTY:-b}", "b"),
        ("${NONE}", ""),
        ("x${A:?make one}y${NONE:-}", "xay"),
    ],
)
def test_variables_are_put_in_as_compose_does(text: str, expected: str) -> None:
    assert COMPOSED.interpolated(text, {"A": "a", "EMPTY": ""}) == expected


def test_a_missing_secret_is_named() -> None:
    with pytest.raises(COMPOSED.StackError, match=r"^A: not set; make one$"):
        COMPOSED.interpolated("${A:?make one}", {"A": ""})


def test_secrets_are_made_once_and_for_nobody_else(tmp_path: Path) -> None:
    place = COMPOSED.Place(tmp_path, 5001, 5434)
    made = COMPOSED.saved_secrets(place)
    assert set(made) == set(VALUES)
    assert len(set(made.values())) == 3
    assert all(len(value) == 48 for value in made.values())
    assert stat.S_IMODE(place.env_file.stat().st_mode) == 0o600
    assert COMPOSED.saved_secrets(place) == made


def test_values_of_the_user_stay(tmp_path: Path) -> None:
    place = COMPOSED.Place(tmp_path, 5001, 5434)
    place.env_file.write_text("# ours\nMLFLOW_HOST=lab.example.org\n", encoding="utf-8")
    made = COMPOSED.saved_secrets(place)
    assert made["MLFLOW_HOST"] == "lab.example.org"
    assert set(made) == {*VALUES, "MLFLOW_HOST"}
    assert COMPOSED.saved_secrets(place) == made


def test_lost_secrets_of_a_database_are_not_replaced(tmp_path: Path) -> None:
    place = COMPOSED.Place(tmp_path, 5001, 5434)
    place.cluster.mkdir()
    with pytest.raises(COMPOSED.StackError, match=r"found no .*POSTGRES_PASSWORD, expected"):
        COMPOSED.saved_secrets(place)
    assert not place.env_file.exists()
