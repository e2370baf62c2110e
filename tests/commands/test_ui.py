"""The ui command serves the store, or says where it is served already."""

import os
import signal
import subprocess
import sys

import pytest

from commands import ui
from errors import InputError
from tests.places import ROOT, Place
from tests.tracking.test_server import free_port, get, wait_for


def test_a_store_on_a_server_is_pointed_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://runs.example:5000")
    assert ui.main([]) == 0
    assert "http://runs.example:5000" in capsys.readouterr().out


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
        ui.main([])


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(place: Place) -> None:
    port = free_port()
    command = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "ui", "--port", str(port)],
        cwd=place.folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": place.uri},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", command)
        assert get(f"http://127.0.0.1:{port}/health") == b"OK"
        # As Ctrl-C does: to the whole group.
        os.killpg(command.pid, signal.SIGINT)
        out, _ = command.communicate(timeout=60)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
            command.wait()
    assert command.returncode == 0
    assert f"http://127.0.0.1:{port}/" in out.decode()
    with pytest.raises(OSError, match=r".*"):
        get(f"http://127.0.0.1:{port}/health")
