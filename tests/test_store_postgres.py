"""A store on PostgreSQL: nothing is lost when it restarts, or when many runs come at once."""

import time
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient

from tests.places import Place, make_place, with_store
from tests.test_store_away import (
    FEW,
    at_once,
    created,
    delivered,
    fit,
    log,
    undisturbed,
    waiting,
)
from tests.tracking.postgres import Cluster, cluster
from tests.tracking.servers import served, train

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(900)]


class TeamPlace(Place):
    """A place whose runs are in a database of a team."""

    address = ""

    @property
    def uri(self) -> str:
        return self.address

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.address)

    def run_ids(self) -> list[str]:
        experiments = [found.experiment_id for found in self.client.search_experiments()]
        return [str(run.info.run_id) for run in self.client.search_runs(experiments)]


@pytest.fixture
def base() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def team(base: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = TeamPlace(make_place(tmp_path_factory.mktemp("team")).folder)
    type(place).address = base.uri
    return place


def test_postgres_restarted_during_runs_loses_nothing(
    base: Cluster, team: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    epochs = "20"
    expected = undisturbed(tmp_path_factory, epochs)
    with served(team, base.uri) as server:
        process = train(team, server.uri, *fit(team, epochs))
        run_id = created(server, process)
        for _ in range(3):
            time.sleep(1)
            base.stop()
            time.sleep(2)
            base.start()
        assert process.wait(600) == 0, log(team)
        assert not waiting(team)
        assert delivered(server, run_id) == expected
    assert "Traceback" not in log(team)


def test_eight_runs_at_once_into_a_new_database(
    team: Place, base: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at_once(team, base.uri, undisturbed(tmp_path_factory, FEW))


def test_a_run_straight_into_the_database_outlives_its_restart(
    base: Cluster, team: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with_store(Place(tmp_path_factory.mktemp("other")), tmp_path_factory)
    process = train(team, base.uri, *fit(team, FEW))
    while not list(team.store.glob("spool/*/store.txt")):
        assert process.poll() is None, log(team)
        time.sleep(0.1)
    base.stop()
    time.sleep(3)
    base.start()
    assert process.wait(600) == 0, log(team)
    assert "Traceback" not in log(team)
    assert not waiting(team)
    (run_id,) = team.run_ids()
    whole = undisturbed(tmp_path_factory, FEW)
    files = {path: team.artifact(run_id, path).read_bytes() for path in team.paths(run_id)}
    found = team.stored(run_id)
    assert found.status == "FINISHED"
    assert found.metrics == whole["metrics"]
    assert set(files) == set(whole["files"])  # type: ignore[call-overload]
