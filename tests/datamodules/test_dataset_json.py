"""Tests of the entries of dataset.json."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.dataset_json import (
    is_nnunet,
    quoted,
    read_channels,
    read_json,
    read_labels,
    slug,
)
from errors import InputError
from tests.datamodules.tiny import refusal

SOURCE = Path("Task77_Tiny/dataset.json")


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "2": "Posterior", "1": "Anterior"},
        {"background": 0, "Posterior": 2, "Anterior": 1},
    ],
)
def test_labels_in_both_forms(labels: dict[str, object]) -> None:
    assert read_labels({"labels": labels}, SOURCE) == ((1, "Anterior"), (2, "Posterior"))


@pytest.mark.parametrize("modality", [{"1": "T1w", "0": "FLAIR"}, {"T1w": 1, "FLAIR": 0}])
def test_modality_in_both_forms(modality: dict[str, object]) -> None:
    assert read_channels({"modality": modality}, SOURCE) == ("FLAIR", "T1w")


def test_labels_without_background() -> None:
    with pytest.raises(InputError) as caught:
        read_labels({"labels": {"1": "Anterior"}}, SOURCE)
    message = refusal(caught)
    assert message.startswith(str(SOURCE))
    assert "labels without 0" in message


@pytest.mark.parametrize(
    "labels",
    [
        [],
        {},
        None,
        "background",
        {"0": "background", "one": "Anterior"},
        {"0": "background", "256": "Anterior"},
        {"0": "background", "-1": "Anterior"},
        {"0": "background", "1.5": "Anterior"},
        {"0": "background", "1": ["Anterior"]},
        {"0": "background", "01": "Anterior", "1": "Posterior"},
        {"background": 0, "Anterior": True},
        {"background": 0, "Anterior": 1.0},
        {"background": 0, "whole": [1, 2]},
        {"0": "background", "9" * 5000: "Anterior"},
        {"0": "background"},
        {"0": "background", "1": "left part", "2": "Left-Part".replace("-", " ")},
    ],
)
def test_wrong_labels(labels: object) -> None:
    with pytest.raises(InputError) as caught:
        read_labels({"labels": labels}, SOURCE)
    assert "labels" in refusal(caught)


def test_regions_are_refused_with_what_to_do() -> None:
    labels = {"background": 0, "whole tumor": [1, 2], "core": 2}
    with pytest.raises(InputError) as caught:
        read_labels({"labels": labels, "channel_names": {"0": "CT"}}, SOURCE)
    message = refusal(caught)
    assert 'found "whole tumor" as a region of several labels' in message
    assert "name each value of the label maps once" in message


def test_channels_of_nnunet() -> None:
    content = {"channel_names": {"1": "ADC", "0": "T2"}, "file_ending": ".nii.gz"}
    assert is_nnunet(content)
    assert read_channels(content, SOURCE) == ("T2", "ADC")
    assert not is_nnunet({"modality": {"0": "MRI"}, "training": []})
    with pytest.raises(InputError, match="expected the keys channel_names, file_ending and labels"):
        read_labels(content, SOURCE)


def test_channels_count_from_zero() -> None:
    with pytest.raises(InputError) as caught:
        read_channels({"modality": {"1": "MRI"}}, SOURCE)
    assert "the numbers 0 to 0" in refusal(caught)


def test_a_misspelt_key_that_is_needed_is_named() -> None:
    with pytest.raises(InputError) as caught:
        read_labels({"lables": {"0": "background"}}, SOURCE)
    assert "found 'lables' but no 'labels'" in refusal(caught)
    with pytest.raises(InputError) as caught:
        read_labels({"x": 1}, SOURCE)
    assert "found no 'labels'" in refusal(caught)


@pytest.mark.parametrize(
    "content",
    [b'{"name": ', b"", b"\xff\xfe\x00", b"[" * 200_000, b'{"labels": {}} x', b"[1, 2]", b"3"],
)
def test_broken_json(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "dataset.json"
    source.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(source)
    assert refusal(caught).startswith(f"{source}: found ")


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    source = tmp_path / "dataset.json"
    source.write_text('{"name": "ä"}', encoding="utf-8-sig")
    assert read_json(source) == {"name": "ä"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("left atrium", "left_atrium"),
        ("non-enhancing tumor", "non-enhancing_tumor"),
        ("Häm/atom (2)", "ham_atom_2"),
        ("海馬", "label_7"),
    ],
)
def test_slugs(name: str, expected: str) -> None:
    assert slug(name, 7) == expected


@given(st.text(), st.integers(0, 255))
def test_a_slug_has_no_other_signs_and_stays_as_it_is(name: str, value: int) -> None:
    made = slug(name, value)
    assert made
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
    assert slug(made, value) == made


def test_long_values_are_cut_in_messages() -> None:
    assert quoted({"a": 1}) == '{"a": 1}'
    assert len(quoted("x" * 1000)) == 120
