"""A run says which code made it, also where that is not known."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tracking import environment
from tracking.environment import git_revision, versions


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit, which the project takes for its own."""
    for key in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(key)
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "main.py").write_text("print(1)\n", encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "main.py")
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    git(folder, *author, "commit", "--quiet", "--message", "First")
    monkeypatch.setattr(environment, "project_dir", lambda: folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_clean_clone_is_named_by_its_commit(clone: Path) -> None:
    assert git_revision() == git(clone, "rev-parse", "HEAD")
    assert len(git_revision()) == 40


@pytest.mark.parametrize("staged", [False, True])
def test_a_changed_file_makes_it_dirty(staged: bool, clone: Path) -> None:
    (clone / "main.py").write_text("print(2)\n", encoding="utf-8")
    if staged:
        git(clone, "add", "main.py")
    assert git_revision() == f"{git(clone, 'rev-parse', 'HEAD')}-dirty"


def test_files_that_git_does_not_track_are_nobodys_business(clone: Path) -> None:
    (clone / "notes.txt").write_text("mine", encoding="utf-8")
    assert git_revision() == git(clone, "rev-parse", "HEAD")


def test_a_folder_without_a_repository_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(environment, "project_dir", lambda: tmp_path)
    assert git_revision() == "unknown"


def test_a_repository_without_a_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    monkeypatch.setattr(environment, "project_dir", lambda: tmp_path)
    assert git_revision() == "unknown"


def test_a_machine_without_git_is_unknown(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision() == "unknown"


def test_versions_are_those_that_are_installed() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert found["mlflow"] == version("mlflow")
    assert found["system"] == platform.platform()
