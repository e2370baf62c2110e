"""The store of a team, started without Docker: closed to strangers, whole for its users, tidy."""

import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.docker.loading import compose, composed
from tests.docker.stacks import Stack, descendants, listening
from tests.places import TASK, Place, make_place
from tests.test_store_away import log
from tests.tracking.postgres import postgres_binaries
from tests.tracking.servers import free_port, train

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not among pytest's folders, into which PostgreSQL's user cannot look."""
    postgres_binaries()
    with tempfile.TemporaryDirectory(prefix="segstress-stack-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    made = Stack(folder)
    try:
        made.start()
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.terminate()
            made.process.wait(90)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("team"))


def test_strangers_and_known_passwords_never_come_in(stack: Stack) -> None:
    assert stack.strangers == {401}
    assert stack.status(account=("admin", "user-own-value")) == 401
    assert stack.status("/", account=None) == 401
    assert stack.status("/api/2.0/mlflow-artifacts/artifacts", account=None) == 401
    assert stack.status(account=stack.admin) == 200
    assert stack.status("/health", account=None) == 200


def test_another_name_and_another_page_are_refused(stack: Stack) -> None:
    for host, status in (("evil.example", 403), (f"localhost:{stack.port}", 200)):
        assert stack.status(account=stack.admin, headers={"Host": host}) == status
    origin = {"Origin": "https://evil.example"}
    path = "/api/2.0/mlflow/experiments/create"
    body = {"name": "from another page"}
    assert stack.status(path, account=stack.admin, headers=origin, body=body) == 403


def test_it_listens_on_this_machine_alone(stack: Stack) -> None:
    assert stack.process is not None
    found = listening(set(descendants(stack.process.pid)))
    assert found == {("127.0.0.1", stack.port), ("127.0.0.1", stack.database_port)}


def test_what_runs_is_what_compose_has(stack: Stack) -> None:
    assert stack.process is not None
    module = composed()
    place = module.Place(stack.folder, stack.port, stack.database_port)
    service = module.mlflow_service(place, stack.secrets)
    family = descendants(stack.process.pid)
    (pid,) = [one for one, line in family.items() if "-m mlflow server" in line]
    words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")[:-1]
    assert words == service.command
    theirs = compose()["services"]["mlflow"]["command"]
    moved = {"--host", "--port", "--artifacts-destination", "--allowed-hosts"}
    assert [word for word in words[2:] if word.partition("=")[0] not in moved] == [
        word.replace("${MLFLOW_HOST:-localhost}", "localhost")
        for word in theirs
        if word.partition("=")[0] not in moved
    ]
    lines = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").split("\0")[:-1]
    environment = dict(line.split("=", 1) for line in lines)
    assert service.environment.items() <= environment.items()
    set_by_others = {name for name in environment if name.startswith(("PG", "MLFLOW_"))}
    assert set_by_others <= set(service.environment)


def test_secrets_are_in_one_file_that_only_its_owner_reads(stack: Stack) -> None:
    assert stack.process is not None
    assert stat.S_IMODE((stack.folder / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((stack.folder / "artifacts").stat().st_mode) == 0o700
    assert stat.S_IMODE((stack.folder / "postgres").stat().st_mode) == 0o700
    shown = [stack.said, *descendants(stack.process.pid).values()]
    shown += [path.read_text(encoding="utf-8") for path in stack.folder.glob("*.log")]
    assert len(stack.secrets) == 3
    assert not [secret for secret in stack.secrets.values() if secret in "\n".join(shown)]


def test_the_database_is_not_root_and_asks_for_its_password(stack: Stack) -> None:
    assert stack.process is not None
    family = descendants(stack.process.pid)
    (pid,) = [one for one, line in family.items() if f"-c port={stack.database_port}" in line]
    assert Path(f"/proc/{pid}").stat().st_uid != 0
    for password, status in (("wrong", 2), (stack.secrets["POSTGRES_PASSWORD"], 0)):
        address = f"postgresql://mlflow@127.0.0.1:{stack.database_port}/mlflow"
        asked = subprocess.run(
            ["psql", "-X", "-w", "-c", "SELECT 1", address],
            env={**os.environ, "PGPASSWORD": password},
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.returncode == status, asked.stderr


def run(
    stack: Stack, place: Place, account: tuple[str, str], *arguments: str, seconds: float = 300
) -> str:
    """A command of ``main.py`` with the variables that the stack prints; what it said."""
    output = place.folder / "log.txt"
    output.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", account[0])
        patch.setenv("MLFLOW_TRACKING_PASSWORD", account[1])
        process = train(place, stack.address, *arguments, log=output)
    assert process.wait(seconds) == 0, log(place)
    return log(place)


def client(stack: Stack, patch: pytest.MonkeyPatch) -> MlflowClient:
    patch.setenv("MLFLOW_TRACKING_USERNAME", stack.admin[0])
    patch.setenv("MLFLOW_TRACKING_PASSWORD", stack.admin[1])
    return MlflowClient(tracking_uri=stack.address)


def test_a_team_trains_compares_and_looks_at_its_runs(
    stack: Stack, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    colleague = ("ada", "a-password-of-hers")
    account = {"username": colleague[0], "password": colleague[1]}
    assert stack.status("/api/2.0/mlflow/users/create", account=stack.admin, body=account) == 200
    fit = ["fit", "--config", str(place.config), "--robustness.splits", "[test]"]
    fit += ["--test_after_fit", "true", "--robustness.pictures", "1"]
    run(stack, place, stack.admin, *fit, "--model.loss", "bce")
    # The same experiment, which somebody else made.
    run(stack, place, colleague, *fit, "--model.loss", "bce+dice")

    store = client(stack, monkeypatch)
    experiment = store.get_experiment_by_name(TASK)
    assert experiment is not None
    assert experiment.artifact_location.startswith("mlflow-artifacts:/")
    runs = store.search_runs([experiment.experiment_id])
    assert {one.data.params["loss"] for one in runs} == {"bce", "bce+dice"}
    for one in runs:
        run_id = one.info.run_id
        assert one.info.status == "FINISHED"
        assert len(store.get_metric_history(run_id, "train/loss")) == 2
        (served,) = (stack.folder / "artifacts").glob(f"*/{run_id}/artifacts")
        assert (served / "robustness" / "test" / "counts.parquet").stat().st_size > 0
        assert list((served / "attacks").rglob("*.png"))
        assert (place.store / "checkpoints" / run_id / "best.ckpt").exists()
    assert not list(place.store.glob("spool/*/*.json"))

    said = run(stack, place, colleague, "compare", "--experiment", TASK)
    assert "bce+dice" in said
    said = run(stack, place, colleague, "ui", "--no-browser")
    assert f"Dashboards of {TASK}" in said
    assert f"{stack.address}/#/experiments/{experiment.experiment_id}/" in said


def test_a_colleague_adds_and_does_not_take_away(stack: Stack) -> None:
    colleague = ("bob", "a-password-of-his")
    create = "/api/2.0/mlflow/experiments/create"
    assert stack.status(create, account=stack.admin, body={"name": "of the admin"}) == 200
    account = {"username": colleague[0], "password": colleague[1]}
    assert stack.status("/api/2.0/mlflow/users/create", account=stack.admin, body=account) == 200
    assert stack.status(account=colleague) == 200
    for path, body in (
        ("experiments/delete", {"experiment_id": "1"}),
        ("users/create", {"username": "eve", "password": "a-password-of-eve"}),
    ):
        assert stack.status(f"/api/2.0/mlflow/{path}", account=colleague, body=body) == 403


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_ends_without_a_trace_and_starts_again_with_everything(
    number: signal.Signals, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored() -> list[tuple[str, str]]:
        store = client(stack, monkeypatch)
        ids = [one.experiment_id for one in store.search_experiments()]
        return sorted((one.info.run_id, one.info.status) for one in store.search_runs(ids))

    before, secrets = stored(), stack.secrets
    assert stack.end(number) == (-number if number == signal.SIGKILL else 0)
    assert stack.status(account=None) == 0
    stack.start()
    assert stored() == before
    assert stack.secrets == secrets
    assert stack.strangers == {401}


def refused(command: list[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert said.returncode == 2, said.stderr
    assert said.stderr.count("\n") == 1, said.stderr
    return said.stderr


def test_a_second_one_is_refused(stack: Stack) -> None:
    assert "runs there already" in refused(stack.command())


def test_a_taken_port_is_named(stack: Stack, tmp_path: Path) -> None:
    other = free_port()
    for ports in ({"database-port": other}, {"port": other}):
        said = refused(stack.command(folder=tmp_path, **ports))
        taken = stack.port if "database-port" in ports else stack.database_port
        assert f"port {taken} on 127.0.0.1 cannot be listened on" in said


def test_a_password_that_is_not_the_databases_is_refused(stack: Stack) -> None:
    stack.end(signal.SIGTERM)
    file = stack.folder / ".env"
    kept = file.read_text(encoding="utf-8")
    try:
        file.write_text(kept.replace("POSTGRES_PASSWORD=", "POSTGRES_PASSWORD=x"), encoding="utf-8")
        assert "POSTGRES_PASSWORD is not that of the database" in refused(stack.command())
        file.unlink()
        assert "bring the file back" in refused(stack.command())
    finally:
        file.write_text(kept, encoding="utf-8")
        file.chmod(0o600)


def test_a_short_password_of_the_admin_is_refused(folder: Path) -> None:
    own = folder / "short"
    own.mkdir()
    file = own / ".env"
    file.write_text("MLFLOW_AUTH_ADMIN_PASSWORD=short\n", encoding="utf-8")
    said = refused(Stack(own).command())
    assert "MLflow did not start" in said
    assert "12 characters" in said


def test_a_folder_that_is_a_file_is_refused(folder: Path) -> None:
    file = folder / "file"
    file.touch()
    assert "cannot be written" in refused(Stack(file).command())
