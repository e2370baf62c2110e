"""A folder that cannot be written is told in one line, by the option that names it."""

from pathlib import Path

import pytest

from datamodules.output_folder import writing_to
from errors import InputError


def test_the_option_the_folder_and_the_reason_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    folder = tmp_path / "file" / "maps"
    with pytest.raises(InputError) as caught, writing_to(folder, "--prediction.output"):
        folder.mkdir()
    assert str(caught.value) == (
        f"--prediction.output {folder}: cannot be written (Not a directory); choose another folder"
    )


def test_other_errors_are_what_they_are(tmp_path: Path) -> None:
    error = ValueError("of its own")
    with pytest.raises(ValueError, match="of its own"), writing_to(tmp_path):
        raise error
