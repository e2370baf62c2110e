"""A sweep as its YAML file describes it: every combination of its grid is a trial.

A trial is one ``python main.py fit`` with the options that a user could type. Its key is a hash of
those options and of the contents of the files that they name, so that the same trial is known again
in any sweep.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from errors import InputError

_SECTIONS = ("options", "grid", "trial")
_CONFIG = "config"
_KEY_LETTERS = 12
_MOST_TRIALS = 10_000
Option = tuple[str, str]


@dataclass(frozen=True)
class Resources:
    """What each trial has to itself.

    Attributes:
        cpus: Cores; also the threads of its PyTorch.
        gpus: GPUs, or a fraction of one that several trials share.
        retries: How often a trial that failed is begun again, from its last checkpoint.
    """

    cpus: int = 1
    gpus: float = 0.0
    retries: int = 1


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes:
        key: Hash of what decides its outcome.
        options: Names and values of its options, in order.
        chosen: Those of the grid, which tell it from the others.
    """

    key: str
    options: tuple[Option, ...]
    chosen: tuple[Option, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """What stands after ``main.py`` on its command line."""
        return ("fit", *(part for name, value in self.options for part in (f"--{name}", value)))

    @property
    def label(self) -> str:
        """The choices of the grid in few words."""
        words = []
        for name, value in self.chosen:
            short = "" if name == _CONFIG else f"{name.rpartition('.')[2]} "
            words.append(short + (Path(value).stem if name == _CONFIG else value))
        return ", ".join(words) or "the only trial"


@dataclass(frozen=True)
class Sweep:
    """All trials of a sweep.

    Attributes:
        name: Name of its file without the ending.
        trials: Its trials; the last option of the grid changes fastest.
        resources: Of each trial.
        source: The file's text.
    """

    name: str
    trials: tuple[Trial, ...]
    resources: Resources
    source: str


def read_sweep(path: Path, more: Sequence[str] = (), *, places: Sequence[Path] = ()) -> Sweep:
    """Read a sweep's YAML file and expand its grid.

    Args:
        path: The file.
        more: Options for every trial, as on a command line; they stand above those of the file.
        places: Folders that its ``config`` files are looked for in.

    Raises:
        InputError: If the file is no sweep, a ``config`` is not there, or an option comes twice.
    """
    content, text = _content(path)
    options, grid = content.get("options") or {}, content.get("grid") or {}
    for section, entries in (("options", options), ("grid", grid)):
        if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries):
            raise _wrong(path, f"{section} {entries!r:.80}", "options of fit by name")
    twice = sorted((options.keys() & grid.keys()) - {_CONFIG})
    if twice:
        raise _wrong(path, f"{twice[0]} in options and in grid", "each option once")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise _wrong(path, f"grid.{name} {values!r:.80}", "a list of values")
    given = _given(more)
    count = 1
    for values in grid.values():
        count *= len(values)
    if count > _MOST_TRIALS:
        raise _wrong(path, f"a grid of {count} trials", f"at most {_MOST_TRIALS}")
    trials = []
    for values in itertools.product(*grid.values()):
        chosen = tuple(zip(grid, map(_text, values), strict=True))
        named = dict([*_pairs(options), *chosen, *given])
        configs = [
            (_CONFIG, str(_config_file(path, one, places)))
            for one in [*_configs(options), *_configs(dict(zip(grid, values, strict=True)))]
        ]
        named.pop(_CONFIG, None)
        found = (*configs, *named.items())
        trials.append(Trial(_key(found), found, chosen))
    if len({trial.key for trial in trials}) < len(trials):
        raise _wrong(path, "the same trial twice", "combinations that differ")
    return Sweep(path.stem, tuple(trials), _resources(path, content.get("trial")), text)


def _content(path: Path) -> tuple[Mapping[str, Any], str]:
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        msg = f"sweep {path}: found no readable YAML ({reason:.200}); give one of conf/sweep"
        raise InputError(msg) from error
    if not isinstance(content, dict) or not content.keys() <= set(_SECTIONS):
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise _wrong(path, found, f"some of {', '.join(_SECTIONS)}")
    return content, text


def _resources(path: Path, entry: object) -> Resources:
    entries = {} if entry is None else entry
    known = {"cpus": int, "gpus": float, "retries": int}
    if not isinstance(entries, dict) or not entries.keys() <= known.keys():
        raise _wrong(path, f"trial {entry!r:.80}", f"some of {', '.join(known)}")
    for name, value in entries.items():
        least = 1 if name == "cpus" else 0
        kinds = (int,) if known[name] is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < 2**16:
            raise _wrong(path, f"trial.{name} {value!r}", f"a number of {least} or more")
    return Resources(**entries)


def _given(more: Sequence[str]) -> list[Option]:
    """Options from a command line: ``--name value`` or ``--name=value``."""
    pairs: list[Option] = []
    left = list(more)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if not name.startswith("--") or name == f"--{_CONFIG}" or not (equals or left):
            msg = (
                f"sweep: found {name!r} among the options for every trial, expected --name value; "
                f"put {_CONFIG} files into the sweep's file"
            )
            raise InputError(msg)
        pairs.append((name.removeprefix("--"), value if equals else left.pop(0)))
    return pairs


def _pairs(options: Mapping[str, Any]) -> list[Option]:
    return [(name, _text(value)) for name, value in options.items()]


def _text(value: object) -> str:
    """A value as a command line has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _configs(options: Mapping[str, Any]) -> list[str]:
    found = options.get(_CONFIG, [])
    return [str(one) for one in (found if isinstance(found, list) else [found])]


def _config_file(sweep: Path, name: str, places: Sequence[Path]) -> Path:
    for place in (*places, sweep.parent):
        if (place / name).is_file():
            return (place / name).resolve()
    raise _wrong(sweep, f"config {name}, which is no file", "a YAML file of settings")


def _key(options: Sequence[Option]) -> str:
    """Hash options; of a config file its contents count, not its place."""
    facts = [
        [name, Path(value).read_text(encoding="utf-8") if name == _CONFIG else value]
        for name, value in options
    ]
    configs = [fact for fact in facts if fact[0] == _CONFIG]
    others = sorted(fact for fact in facts if fact[0] != _CONFIG)
    return hashlib.sha256(json.dumps([configs, others]).encode()).hexdigest()[:_KEY_LETTERS]


def _wrong(path: Path, found: object, expected: str) -> InputError:
    return InputError(f"sweep {path}: found {found}, expected {expected}; mend the file")
