"""The import rules of the house: every arrow between parts, and who may use which library."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A part may import those of later lines, none of its own or earlier ones. `errors` is open to all
# but `robustness`, which someone can lift out.
LAYERS = (
    ("main",),
    ("commands",),
    ("sweeps", "comparison", "callbacks"),
    ("tracking", "pictures"),
    ("robustness", "lightning_module", "datamodules"),
)
LAYER_OF = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}
UNBOUND = {"tests", "benchmarks", "docker"}  # may import everything; no part imports them
NOT_OURS = {"build", "data", "lightning_logs", "mlruns"}

# Library -> the only folders or files that may import it.
LIBRARY_HOMES = {
    "mlflow": ("tracking/",),
    "matplotlib": ("pictures/",),
    "plotly": ("comparison/report",),
}
# Part -> modules it must not know although the arrows allow it, or that are no part at all.
FORBIDDEN = {
    "robustness": ("lightning", "pytorch_lightning", "errors"),
    "callbacks": ("lightning_module.module", "lightning_module.SegmentationModule"),
}


@dataclass(frozen=True)
class Import:
    """One imported name, as absolute dotted path, and where it stands."""

    file: str
    line: int
    name: str

    @property
    def part(self) -> str:
        return Path(self.file).parts[0].removesuffix(".py")


def test_the_house_keeps_its_import_rules() -> None:
    assert not list(violations(ROOT))


def test_the_walk_reaches_the_parts() -> None:
    read = {Path(file).parts[0] for file in map(str, source_files(ROOT))}
    assert {"datamodules", "lightning_module", "robustness", "tracking", "pictures"} <= read


def violations(root: Path) -> Iterator[str]:
    """Yield one line for every import under ``root`` that a rule forbids, and for unknown parts."""
    known = {*LAYER_OF, "errors", *UNBOUND}
    for file in source_files(root):
        part = file.parts[0].removesuffix(".py")
        if part not in known:
            yield f"{file}: part {part!r} is not in the table of layers"
        elif part not in UNBOUND:
            for found in imports(root, file):
                yield from (f"{found.file}:{found.line}: {why}" for why in reasons(found))


def reasons(found: Import) -> Iterator[str]:
    """Yield why an import is forbidden; nothing where it is allowed."""
    target = found.name.split(".")[0]
    if target in UNBOUND:
        yield f"{found.part} imports {target}"
    elif target in LAYER_OF and target != found.part:
        below = LAYER_OF[target] - LAYER_OF.get(found.part, len(LAYERS))
        if below <= 0:
            yield f"{found.part} imports {target}"
    homes = LIBRARY_HOMES.get(target)
    if homes and not found.file.startswith(homes):
        yield f"{target} is imported outside {', '.join(homes)}"
    for name in FORBIDDEN.get(found.part, ()):
        if found.name == name or found.name.startswith(f"{name}."):
            yield f"{found.part} imports {name}"


def source_files(root: Path) -> Iterator[Path]:
    """Yield the Python files of the house relative to its root, hidden folders left out."""
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root)
        if file.parts[0] not in NOT_OURS and not any(name.startswith(".") for name in file.parts):
            yield file


def imports(root: Path, file: Path) -> Iterator[Import]:
    """Yield what a file imports anywhere: at the top, in functions, relatively or by literal name.

    ``from a import b`` counts as ``a.b``, for ``b`` may be a module.
    """
    for node in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"), str(file))):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(names=names):
                source = _absolute(file, node)
                found = [".".join(filter(None, (source, alias.name))) for alias in names]
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if _imports(func):
                found = [name]
            case _:
                continue
        yield from (Import(file.as_posix(), node.lineno, name) for name in found)


def _absolute(file: Path, node: ast.ImportFrom) -> str:
    package = file.parent.parts[: len(file.parent.parts) - node.level + 1] if node.level else ()
    return ".".join([*package, *filter(None, [node.module])])


def _imports(func: ast.expr) -> bool:
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    return name in {"import_module", "__import__"}


@pytest.mark.parametrize(
    ("file", "source", "reason"),
    [
        ("main.py", "import tests.conftest", "main imports tests"),
        ("errors.py", "import datamodules", "errors imports datamodules"),
        ("commands/ui.py", "import main", "commands imports main"),
        ("callbacks/a.py", "from commands.ui import run", "callbacks imports commands"),
        ("callbacks/a.py", "import comparison.report", "callbacks imports comparison"),
        ("comparison/a.py", "from callbacks import b", "comparison imports callbacks"),
        ("tracking/a.py", "import pictures", "tracking imports pictures"),
        ("pictures/a.py", "import callbacks", "pictures imports callbacks"),
        ("datamodules/a.py", "import robustness.counts as c", "datamodules imports robustness"),
        ("lightning_module/losses/a.py", "import datamodules.batch", "imports datamodules"),
        ("lightning_module/losses/a.py", "from ...tracking import b", "imports tracking"),
        ("lightning_module/a.py", "from .. import tracking", "lightning_module imports tracking"),
        ("datamodules/a.py", "def f():\n    import main", "datamodules imports main"),
        ("datamodules/a.py", "import importlib\nimportlib.import_module('main')", "imports main"),
        ("datamodules/a.py", "__import__('tracking.store')", "datamodules imports tracking"),
        ("datamodules/a.py", "if TYPE_CHECKING:\n    import tracking", "imports tracking"),
        ("robustness/a.py", "from errors import InputError", "robustness imports errors"),
        ("robustness/a.py", "from lightning import Trainer", "robustness imports lightning"),
        ("robustness/a.py", "import pytorch_lightning", "robustness imports pytorch_lightning"),
        ("robustness/a.py", "import mlflow", "mlflow is imported outside tracking/"),
        ("callbacks/a.py", "from mlflow import MlflowClient", "mlflow is imported outside"),
        ("tracking/a.py", "from matplotlib.figure import Figure", "matplotlib is imported outside"),
        ("comparison/figures.py", "import plotly.graph_objects", "plotly is imported outside"),
        ("callbacks/a.py", "from lightning_module.module import A", "lightning_module.module"),
        ("callbacks/a.py", "from lightning_module import SegmentationModule", "callbacks imports"),
        ("helpers/a.py", "import torch", "part 'helpers' is not in the table"),
        ("util.py", "import torch", "part 'util' is not in the table"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, source: str, reason: str) -> None:
    _write(tmp_path, file, source)
    found = list(violations(tmp_path))
    assert len(found) == 1
    assert found[0].startswith(file)
    assert reason in found[0]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("main.py", "import commands.ui, tracking.store, errors, datamodules"),
        (
            "commands/ui.py",
            "import callbacks, sweeps.grid, tracking\nimport commands.x",
        ),
        ("sweeps/a.py", "from errors import InputError\nfrom tracking import store"),
        ("comparison/report.py", "import plotly.graph_objects as go\nfrom pictures import figure1"),
        ("callbacks/a.py", "from lightning_module.losses import registry\nimport lightning"),
        ("tracking/a.py", "import mlflow.entities\nfrom robustness.counts import read_counts"),
        ("pictures/a.py", "from matplotlib.figure import Figure\nfrom robustness import snapshots"),
        ("lightning_module/module.py", "from .losses import registry\nimport lightning.pytorch"),
        ("robustness/a.py", "from robustness.counts import read_counts\nimport torch, numpy"),
        ("tests/tracking/test_a.py", "import mlflow, matplotlib, main, errors, robustness"),
        ("benchmarks/speed.py", "import robustness, datamodules"),
        ("mlruns/artifacts/code/a.py", "import main"),
        (".venv/lib/a.py", "import main"),
    ],
)
def test_an_allowed_import_passes(tmp_path: Path, file: str, source: str) -> None:
    _write(tmp_path, file, source)
    assert not list(violations(tmp_path))


def _write(root: Path, file: str, source: str) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
