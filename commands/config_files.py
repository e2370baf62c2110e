"""Looks at the YAML files of a command line first: the parser does not say which is broken."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from errors import InputError

_OPTIONS = ("--config", "-c")


def check_config_files(arguments: Sequence[str]) -> None:
    """Refuse a file that is no YAML of settings.

    Args:
        arguments: The command line; files that are missing are left to the parser.

    Raises:
        InputError: If a file cannot be read as YAML, or holds anything but settings by name.
    """
    for file in _config_files(arguments):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            reason = " ".join(str(error).split())
            msg = f"--config {file}: found no valid YAML ({reason:.200}); mend the file"
            raise InputError(msg) from error
        if content is not None and not isinstance(content, dict):
            msg = f"--config {file}: found {type(content).__name__}, expected settings by name"
            raise InputError(msg)


def _config_files(arguments: Sequence[str]) -> list[Path]:
    files = []
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in _OPTIONS:
            following = arguments[index + 1] if index + 1 < len(arguments) else ""
            files.append(Path(value if equals else following))
    return [file for file in files if file.is_file()]
