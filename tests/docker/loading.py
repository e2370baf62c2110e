"""The scripts of docker/, which is no package: `docker` is also the name of a library."""

import importlib.util
import sys
from typing import Any

import yaml

from tests.places import ROOT

DOCKER = ROOT / "docker"


def composed() -> Any:  # noqa: ANN401
    """The module that reads compose.yaml."""
    name = "segstress_composed"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, DOCKER / "composed.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def compose() -> dict[str, Any]:
    """compose.yaml as it stands."""
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return loaded
