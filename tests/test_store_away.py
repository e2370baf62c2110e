"""A server that is killed, slow, silent or unwilling costs a run nothing that it wrote."""

import hashlib
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import Place, make_place, with_store
from tests.tracking.servers import Proxy, Server, free_port, served, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FLAGS = ["--robustness.pictures", "1", "--trainer.max_epochs"]
FEW = "4"
History = dict[str, list[tuple[int, str]]]


@pytest.fixture
def away(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return with_store(make_place(tmp_path_factory.mktemp("away")), tmp_path_factory)


def fit(place: Place, epochs: str) -> list[str]:
    return ["fit", "--config", str(place.config), *FLAGS, epochs]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return undisturbed(tmp_path_factory, FEW)


def undisturbed(factory: pytest.TempPathFactory, epochs: str) -> dict[str, object]:
    """The same training, written straight into a database."""
    place = with_store(make_place(factory.mktemp("whole")), factory)
    process = place.start(*fit(place, epochs))
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, out + error
    (run_id,) = place.run_ids()
    files = {path: place.artifact(run_id, path).read_bytes() for path in place.paths(run_id)}
    return kept(place, run_id, files)


def kept(place: Place, run_id: str, files: dict[str, bytes]) -> dict[str, object]:
    """What a run left that does not depend on time and place."""
    run = place.client.get_run(run_id)
    metrics: History = {}
    for key in run.data.metrics:
        history = sorted(place.client.get_metric_history(run_id, key), key=lambda one: one.step)
        # Steps rise with time: the order in which values were measured is the one they stand in.
        times = [one.timestamp for one in history]
        assert times == sorted(times), key
        metrics[key] = [(one.step, float(one.value).hex()) for one in history]
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    del tags["segstress.revision"]  # somebody may commit between two runs
    # The whole configuration names folders, which differ.
    names = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    assert b"max_epochs" in files["config/fit.yaml"]
    names["config/fit.yaml"] = ""
    shown = run.data.tags.get("mlflow.loggedImages")
    params = dict(run.data.params)
    return {
        "status": run.info.status,
        "params": params,
        "tags": tags,
        "shown": shown,
        "metrics": metrics,
        "files": names,
    }


def delivered(server: Server, run_id: str) -> dict[str, object]:
    return kept(server.place, run_id, server.files(run_id))


def created(server: Server, process: subprocess.Popen[bytes]) -> str:
    """Wait until the run has its id from the store; the process must still run then."""
    while not (found := list(server.place.store.glob("spool/*/store.txt"))):
        assert process.poll() is None, log(server.place)
        time.sleep(0.05)
    return found[0].parent.name


def waiting(place: Place) -> list[Path]:
    return list(place.store.glob("spool/*/*.entry"))


def log(place: Place) -> str:
    return (place.folder / "log.txt").read_text(encoding="utf-8")


def sync(place: Place, uri: str, *arguments: str) -> tuple[int, str]:
    output = place.folder / "sync.txt"
    output.unlink(missing_ok=True)
    process = train(place, uri, "sync", *arguments, log=output)
    return process.wait(200), output.read_text(encoding="utf-8")


def killed_often(
    server: Server,
    epochs: str,
    *,
    kills: int,
    up_s: tuple[float, float],
    down_s: tuple[float, float],
    seed: int,
) -> tuple[str, int]:
    """Train while the server is killed and started again; the run's id, and kills in the run."""
    drawn = random.Random(seed)
    process = train(server.place, server.uri, *fit(server.place, epochs))
    run_id = created(server, process)
    during = 0
    for _ in range(kills):
        time.sleep(drawn.uniform(*up_s))
        during += process.poll() is None
        server.kill()
        time.sleep(drawn.uniform(*down_s))
        server.start()
    assert process.wait(600) == 0, log(server.place)
    return run_id, during


def test_a_server_killed_ten_times_loses_nothing(
    away: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    epochs = "120"
    expected = undisturbed(tmp_path_factory, epochs)
    with served(away) as server:
        run_id, during = killed_often(
            server, epochs, kills=10, up_s=(0.2, 4.0), down_s=(0.0, 3.0), seed=7
        )
        assert during >= 3, "the training was over before the server was killed often"
        assert not waiting(away)
        assert delivered(server, run_id) == expected
    assert "Traceback" not in log(away)


@pytest.fixture
def proxied(away: Place) -> Iterator[tuple[Server, Proxy]]:
    with served(away) as server:
        proxy = Proxy(server.port)
        yield server, proxy
        proxy.close()


def test_a_slow_server_gets_all_in_the_end(
    proxied: tuple[Server, Proxy], whole: dict[str, object]
) -> None:
    server, proxy = proxied
    process = train(server.place, proxy.uri, *fit(server.place, FEW))
    run_id = created(server, process)
    proxy.delay_s = 0.5
    assert process.wait(300) == 0, log(server.place)
    assert delivered(server, run_id) == whole


def test_a_server_that_hangs_delays_the_end_by_no_more_than_the_wait(
    proxied: tuple[Server, Proxy], whole: dict[str, object]
) -> None:
    server, proxy = proxied
    place = server.place
    process = train(place, proxy.uri, *fit(place, FEW), wait_s=6)
    run_id = created(server, process)
    proxy.hangs = True
    assert process.wait(240) == 0, log(place)
    assert "sync delivers them" in log(place)
    left = waiting(place)
    assert left
    proxy.hangs = False
    status, said = sync(place, proxy.uri)
    assert status == 0, said
    assert run_id in said
    assert not waiting(place)
    assert delivered(server, run_id) == whole
    assert "Nothing waits" in sync(place, proxy.uri)[1]


def test_a_run_that_was_deleted_is_refused_with_one_line_and_kept(
    away: Place, whole: dict[str, object]
) -> None:
    with served(away) as server:
        process = train(away, server.uri, *fit(away, FEW))
        run_id = created(server, process)
        away.client.delete_run(run_id)
        assert process.wait(240) == 0, log(away)
        assert log(away).count("refuses") == 1
        assert "Traceback" not in log(away)
        assert waiting(away)
        status, said = sync(away, server.uri, "--run", run_id[:8])
        assert status == 1
        assert "refuses" in said
        away.client.restore_run(run_id)
        status, said = sync(away, server.uri)
        assert status == 0, said
        assert delivered(server, run_id) == whole


def killed_while_away(away: Place, server: Server) -> str:
    """A run whose server is killed, and then it itself once it has a checkpoint."""
    process = train(away, server.uri, *fit(away, FEW))
    run_id = created(server, process)
    server.kill()
    while not away.checkpoint(run_id).exists():
        assert process.poll() is None, log(away)
        time.sleep(0.02)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return run_id


def test_a_training_killed_while_the_server_is_away_leaves_all_to_sync(
    away: Place, whole: dict[str, object]
) -> None:
    with served(away) as server:
        run_id = killed_while_away(away, server)
        left = waiting(away)
        assert left
        status, said = sync(away, server.uri)
        assert status == 1, said
        assert len(waiting(away)) == len(left)

        server.start()
        both = [
            train(away, server.uri, "sync", log=away.folder / f"sync{number}.txt")
            for number in range(2)
        ]
        assert [one.wait(200) for one in both] == [0, 0]
        assert not waiting(away)
        said = "".join((away.folder / f"sync{number}.txt").read_text() for number in range(2))
        assert said.count(f"run {run_id}: delivered") >= 1, said

        last = away.checkpoint(run_id)
        process = train(away, server.uri, "fit", "--ckpt_path", str(last))
        assert process.wait(300) == 0, log(away)
        assert delivered(server, run_id) == whole


def test_a_run_goes_on_from_its_checkpoint_where_its_spool_is_lost(
    away: Place, whole: dict[str, object]
) -> None:
    with served(away) as server:
        run_id = killed_while_away(away, server)
        for path in waiting(away):
            path.unlink()
        server.start()
        last = away.checkpoint(run_id)
        process = train(away, server.uri, "fit", "--ckpt_path", str(last))
        assert process.wait(300) == 0, log(away)
        found = delivered(server, run_id)
        for part in ("metrics", "params", "status"):
            assert found[part] == whole[part]


def test_ctrl_c_ends_the_wait_at_once_and_the_run_well(
    away: Place, whole: dict[str, object]
) -> None:
    with served(away) as server:
        process = train(away, server.uri, *fit(away, FEW), wait_s=600)
        run_id = created(server, process)
        server.kill()
        while "Waiting up to" not in log(away):
            assert process.poll() is None, log(away)
            time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log(away)
        assert time.monotonic() - began < 20
        assert "sync delivers them" in log(away)
        server.start()
        assert sync(away, server.uri)[0] == 0
        assert delivered(server, run_id) == whole


def test_a_new_run_needs_a_store_that_answers(away: Place) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    assert train(away, uri, *fit(away, FEW)).wait(200) == 2
    (line,) = [line for line in log(away).splitlines() if line.startswith("error: ")]
    assert uri in line


def test_eight_runs_at_once_into_one_new_store(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = make_place(tmp_path_factory.mktemp("eight"))
    at_once(place, place.uri, undisturbed(tmp_path_factory, FEW))


def at_once(place: Place, uri: str, expected: dict[str, object], runs: int = 8) -> None:
    """Train the same several times at once; each run must hold what an undisturbed one holds."""
    logs = [place.folder / f"log{number}.txt" for number in range(runs)]
    processes = [train(place, uri, *fit(place, FEW), log=said) for said in logs]
    for said, process in zip(logs, processes, strict=True):
        assert process.wait(600) == 0, said.read_text(encoding="utf-8")
    assert not waiting(place)
    stored = [place.stored(run_id) for run_id in place.run_ids()]
    assert len(stored) == runs
    assert {one.status for one in stored} == {"FINISHED"}
    for one in stored:
        assert one.metrics == expected["metrics"]
        assert set(one.artifacts) == set(expected["files"])  # type: ignore[call-overload]
