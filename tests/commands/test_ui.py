"""The ui command serves the store, or says where it is served already."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from commands import ui
from errors import InputError
from tests.places import ROOT, NewLogger, Place
from tests.tracking.test_server import free_port, get, wait_for


def test_a_server_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1"):
        ui.main([])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "many"], ["--port", "many"]),
        (["--prot", "5001"], ["--prot"]),
        (["elsewhere"], ["elsewhere"]),
        (["--port"], ["--port"]),
    ],
)
def test_wrong_options_are_one_line(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as raised:
        ui.main(arguments)
    message = str(raised.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_store_that_cannot_be_opened_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(InputError, match="nonsense://nowhere"):
        ui.main(["--port", str(free_port())])


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    logger.log_metrics({"val/dice": 0.5})
    logger.send()
    logger.finalize("success")
    port = free_port()
    command = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "ui", "--port", str(port), "--no-browser"],
        cwd=place.folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": place.uri},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    server = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{server}/health", command)
        assert get(f"{server}/health") == b"OK"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", server)
            beside = subprocess.run(
                [sys.executable, str(ROOT / "main.py"), "ui", "--no-browser"],
                cwd=place.folder,
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
            )
        # As Ctrl-C does: to the whole group.
        os.killpg(command.pid, signal.SIGINT)
        out, err = command.communicate(timeout=60)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
            command.wait()
    assert command.returncode == 0
    assert "Uvicorn running" in err.decode()
    assert "Traceback" not in err.decode()
    experiment = place.client.get_experiment_by_name("trials")
    assert experiment is not None
    path = f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    for key, how in (("segstress-runs", "run "), ("segstress-losses", "loss")):
        line = f"  SegStress: validation set by {how}  {server}/{path}"
        line += f"&compareRunsMode=CHART&viewStateShareKey={key}"
        # A store on a server is pointed at, its dashboards too.
        assert line in out.decode().splitlines()
        assert line in beside.stdout.splitlines()
    assert "Dashboards of trials" in beside.stdout
    assert f"on a server already: open {server}/" in beside.stdout
    with pytest.raises(OSError, match=r".*"):
        get(f"{server}/health")


@pytest.mark.slow
def test_a_browser_opens_on_the_first_dashboard(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    logger.log_metrics({"val/dice": 0.5})
    logger.send()
    logger.finalize("success")
    note = place.folder / "opened.txt"
    script = place.folder / "browser.sh"
    script.write_text(f'#!/bin/sh\necho "$1" >> {note}\n')
    script.chmod(0o755)
    port = free_port()
    command = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "ui", "--port", str(port)],
        cwd=place.folder,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": place.uri,
            "BROWSER": f"{script} %s",
            "DISPLAY": ":99",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", command)
        deadline = time.monotonic() + 30
        while not note.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        os.killpg(command.pid, signal.SIGTERM)
        command.wait(60)
    (opened,) = note.read_text().splitlines()
    assert opened.startswith(f"http://127.0.0.1:{port}/#/experiments/")
    assert opened.endswith("viewStateShareKey=segstress-runs")


def test_a_port_that_is_taken_is_refused(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with place.unharmed(), pytest.raises(InputError, match=f"--port: {port} .* choose another"):
            ui.main(["--port", str(port)])
