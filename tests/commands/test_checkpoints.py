"""A checkpoint tells its run and settings; anything else is refused and runs no code."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from callbacks.run_state import CHECKPOINT_KEY
from commands.checkpoints import CheckpointInfo, read_checkpoint, settings_file
from errors import InputError

SETTINGS = {"seed_everything": 3, "data": {"fold": 1}, "trainer": {"max_epochs": 2}}


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        read_checkpoint(path)
    message = str(raised.value)
    assert str(path) in message
    assert "--ckpt_path" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("run_id", ["a" * 32, None])
def test_a_checkpoint_tells_its_run_and_settings(tmp_path: Path, run_id: str | None) -> None:
    state = {"run_id": run_id, "unsent": [["val/dice", 0, 17, 0.5]], "settings": SETTINGS}
    weights = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
    path = write(tmp_path / "last.ckpt", {"state_dict": weights, CHECKPOINT_KEY: state})
    shapes = {"weight": (2, 3), "bias": (2,)}
    assert read_checkpoint(path) == CheckpointInfo(run_id, SETTINGS, shapes)


@pytest.mark.parametrize("name", ["nothing.ckpt", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    assert "not a file" in refused(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"state_dict": {"weight": torch.ones(2)}}, id="another tool"),
        pytest.param({"pytorch-lightning_version": "2.6.6", "epoch": 1}, id="lightning"),
        pytest.param([1, 2], id="list"),
        pytest.param(torch.ones(3), id="tensor"),
        pytest.param({CHECKPOINT_KEY: 3}, id="number"),
        pytest.param({CHECKPOINT_KEY: {}}, id="empty"),
        pytest.param({CHECKPOINT_KEY: {"run_id": "a", "settings": None}}, id="no settings"),
    ],
)
def test_a_file_of_another_tool_is_refused(tmp_path: Path, content: object) -> None:
    refused(write(tmp_path / "foreign.ckpt", content))


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = content.index(b"data.pkl") + 40
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 64])


@pytest.mark.parametrize(
    "broken",
    [
        truncated,
        flipped,
        lambda _: b"",
        lambda _: b"just some text\n",
        lambda _: b"robustness: {attacks: []}\n",
        lambda _: b"\x80\x02}q\x00.",
        lambda _: b"PK\x03\x04 no zip",
        lambda _: bytes(range(256)) * 20,
    ],
    ids=["truncated", "flipped", "empty", "text", "yaml", "pickle", "zip", "bytes"],
)
def test_a_broken_file_is_refused(tmp_path: Path, broken: Callable[[bytes], bytes]) -> None:
    state = {"run_id": "a", "unsent": [], "settings": SETTINGS}
    whole = write(tmp_path / "whole.ckpt", {"weight": torch.ones(99), CHECKPOINT_KEY: state})
    path = tmp_path / "broken.ckpt"
    path.write_bytes(broken(whole.read_bytes()))
    refused(path)


class Malice:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    target = tmp_path / "harm"
    state = {"run_id": "a", "unsent": [], "settings": SETTINGS}
    path = write(tmp_path / "evil.ckpt", {CHECKPOINT_KEY: state, "extra": Malice(target)})
    refused(path)
    assert not target.exists()


@pytest.mark.parametrize(("fit", "kept"), [(True, SETTINGS), (False, {**SETTINGS})])
def test_only_a_training_goes_on_under_the_same_trainer(fit: bool, kept: dict[str, Any]) -> None:
    expected = {key: value for key, value in kept.items() if fit or key != "trainer"}
    info = CheckpointInfo("a", dict(SETTINGS), {})
    with settings_file(info, fit=fit) as file:
        assert yaml.safe_load(file.read_text(encoding="utf-8")) == expected
    assert not file.exists()
    assert info.settings == SETTINGS
