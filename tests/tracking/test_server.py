"""The UI opens this store on this machine, and shows what is in it."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from errors import InputError
from tests.places import Place
from tests.tracking.test_logger import png
from tracking.logger import RunLogger
from tracking.server import ui_command


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_the_command_serves_this_store_with_one_worker(place: Place) -> None:
    command, environment = ui_command("127.0.0.1", 5001)
    assert command[command.index("--backend-store-uri") + 1] == place.uri
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5001"
    assert command[command.index("--workers") + 1] == "1"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["PATH"] == os.environ["PATH"]


def test_a_store_that_cannot_be_opened_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(InputError, match="nonsense://nowhere"):
        ui_command("127.0.0.1", 5001)


@pytest.fixture
def address(place: Place, new_logger: Callable[[], RunLogger]) -> Iterator[str]:
    """A server of a store with one run, ended afterwards."""
    logger = new_logger()
    logger.log_picture(png(0), "saliency/case_1")
    logger.finalize("success")
    port = free_port()
    command, environment = ui_command("127.0.0.1", port)
    server = subprocess.Popen(
        command,
        env=environment,
        cwd=place.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        try:
            get(address)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"the server did not answer at {address}; its exit status is {server.poll()}")


def get(address: str, body: dict[str, object] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        address, data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: bytes = answer.read()
    return content


@pytest.mark.slow
def test_the_server_shows_the_runs_of_the_store(address: str, place: Place) -> None:
    assert get(f"{address}/health") == b"OK"
    api = f"{address}/api/2.0/mlflow"
    found = json.loads(get(f"{api}/experiments/search", {"max_results": 10}))["experiments"]
    assert {experiment["name"] for experiment in found} == {"trials", "Default"}
    (run_id,) = place.run_ids()
    run = json.loads(get(f"{api}/runs/get?run_id={run_id}"))["run"]
    assert run["info"]["status"] == "FINISHED"
    picture = get(f"{address}/get-artifact?path=saliency/case_1.png&run_uuid={run_id}")
    assert picture == png(0)
