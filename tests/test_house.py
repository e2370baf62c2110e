"""What must hold for the repository as a whole: files, lock, Makefile, configs and container."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {
    *("install", "demo", "test", "test-slow", "test-real", "lint", "types", "check"),
    *("ui", "lock", "docker", "stack", "bench", "bench-peers", "clean", "help"),
}

CONFIGS = sorted((ROOT / "conf").rglob("*.y*ml"))

# Paths of one machine or one workplace. A bracketed letter keeps each pattern from finding itself.
HOME_PATHS = re.compile(r"/[h]ome/\w|/[U]sers/\w|/[r]oot/|[C]:\\\\?Users|[~]/\w")
WORKPLACE = re.compile(
    r"/[w]ork/|/[o]pt/(pypi|wheels)|/etc/[x]dg/|"
    r"\b[i]ssue #?\d|\b(this|earlier|previous|last|next|another) [s]ession\b",
    re.IGNORECASE,
)
REAL_VOLUMES = re.compile(r"[s]hared/data")
ONLY_PLACE_OF_REAL_VOLUMES = ".ci/run"


def _run(*command: str) -> str:
    # Without the variables of an outer make, whose output would differ from a user's.
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        command, cwd=ROOT, env=env, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def files() -> list[str]:
    """List the files that are in git or would be added, relative to the root."""
    if not (ROOT / ".git").exists():
        pytest.skip(f"{ROOT} is no git clone: git cannot list its files")
    listed = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def _texts(files: list[str]) -> dict[str, str]:
    texts = {}
    for name in files:
        content = (ROOT / name).read_bytes()
        if b"\0" not in content:
            texts[name] = content.decode("utf-8")
    return texts


@pytest.mark.parametrize("pattern", [HOME_PATHS, WORKPLACE], ids=["home", "workplace"])
def test_no_file_names_a_place_of_one_machine(files: list[str], pattern: re.Pattern[str]) -> None:
    found = {
        name: match[0] for name, text in _texts(files).items() if (match := pattern.search(text))
    }
    assert not found


def test_only_ci_knows_where_real_volumes_lie(files: list[str]) -> None:
    found = [name for name, text in _texts(files).items() if REAL_VOLUMES.search(text)]
    assert found == [ONLY_PLACE_OF_REAL_VOLUMES]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (HOME_PATHS, "/" + "home/ada/data"),
        (HOME_PATHS, "open('/" + "Users/ada')"),
        (WORKPLACE, "see /" + "work/main"),
        (WORKPLACE, "fixes Issue" + " #12"),
        (REAL_VOLUMES, "../shared" + "/data"),
    ],
)
def test_the_patterns_find_what_they_look_for(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def test_git_takes_nothing_from_mlruns_but_its_placeholder(files: list[str]) -> None:
    assert [name for name in files if name.startswith("mlruns/")] == ["mlruns/.gitkeep"]


def test_every_folder_of_code_is_a_package(files: list[str]) -> None:
    folders = {Path(name).parent for name in files if name.endswith(".py")} - {Path()}
    # `docker` is also the name of a library that mlflow imports: it holds scripts.
    bare = [folder for folder in folders if not (ROOT / folder / "__init__.py").exists()]
    assert bare == [Path("docker")]
    assert not (ROOT / "docker" / "__init__.py").exists()


def test_ci_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_make_help_lists_the_targets() -> None:
    listed = _run("make", "--no-print-directory", "help").splitlines()
    described = dict(line.split(maxsplit=1) for line in listed)
    assert set(described) >= TARGETS


def test_make_help_needs_no_installation() -> None:
    assert ".venv" not in _run("make", "--no-print-directory", "--dry-run", "help")


def test_make_clean_spares_the_runs() -> None:
    for line in _run("make", "--no-print-directory", "--dry-run", "clean").splitlines():
        assert "mlruns" not in line.replace("-not -path './mlruns/*'", "")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_a_mapping(path: Path) -> None:
    assert path.suffix == ".yaml"
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def _lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {_normal(name): version for name, version in pins}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_pins_and_nothing_else() -> None:
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)


def test_the_lock_leaves_the_build_of_torch_open() -> None:
    assert "torch" in _lock()
    assert not [name for name in _lock() if re.match(r"nvidia|cuda|triton", name)]


def test_the_lock_holds_every_listed_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {_normal(re.split(r"[\[<>=~! ]", entry, maxsplit=1)[0]) for entry in listed}
    assert names - set(_lock()) == set()


def _copied() -> set[str]:
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    copies = re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.MULTILINE)
    return {source.rstrip("/") for copy in copies for source in copy.split()[:-1]}


def test_the_image_copies_files_that_exist(files: list[str]) -> None:
    there = {str(path) for name in files for path in (Path(name), *Path(name).parents)}
    assert _copied() - there == set()


def test_the_image_holds_every_part(files: list[str]) -> None:
    parts = {Path(name).parts[0] for name in files if name.endswith(".py")} - {
        "tests",
        "benchmarks",
        "docker",
    }
    assert parts <= _copied()
    assert "conf" in _copied()


def test_the_build_is_sent_what_the_image_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert _copied().isdisjoint(ignored)
