"""The table that weighs cases, and what becomes of it in batches."""

from pathlib import Path

import pytest
import torch

from datamodules.case_weights import read_case_weights
from datamodules.datamodule import DecathlonDataModule
from errors import InputError
from tests.datamodules.tiny import NAME, refusal, write_task

CASES = ["tiny_00", "tiny_01"]


def table(folder: Path, text: str) -> Path:
    path = folder / "weights.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_weights(tmp_path: Path) -> None:
    path = table(tmp_path, "weight,case,note\n2.5,tiny_01,blurred\n0,tiny_00,\n")
    assert read_case_weights(path, CASES) == {"tiny_01": 2.5, "tiny_00": 0.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the columns none"),
        ("case;weight\n", "expected case and weight"),
        ("case,weight\ntiny_07,1\n", "unknown case 'tiny_07'"),
        ("case,weight\ntiny_00,1\ntiny_00,2\n", "tiny_00 a second time in line 3"),
        ("case,weight\ntiny_00,-1\n", "line 2: found '-1', expected a finite number"),
        ("case,weight\ntiny_00,inf\n", "found 'inf'"),
        ("case,weight\ntiny_00,heavy\n", "found 'heavy'"),
        ("case,weight\ntiny_00\n", "found None"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_case_weights(table(tmp_path, text), CASES)
    assert refusal(caught).startswith(f"--data.case_weights {tmp_path}")
    assert said in refusal(caught)


def test_weights_reach_training_batches_and_no_others(tmp_path: Path) -> None:
    write_task(tmp_path, cases=10)
    data = DecathlonDataModule(
        str(tmp_path), NAME, size=(16, 16), cache_dir=str(tmp_path / "cache"), batch_size=4
    )
    data.setup("fit")
    heavy = data.split_cases("train")[0]
    path = table(tmp_path, f"case,weight\n{heavy},3\n")
    weighed = DecathlonDataModule(
        str(tmp_path),
        NAME,
        size=(16, 16),
        cache_dir=str(tmp_path / "cache"),
        batch_size=4,
        case_weights=str(path),
    )
    weighed.setup("fit")
    seen = 0
    for batch in weighed.train_dataloader():
        assert batch["sample_weight"].dtype == torch.float32
        expected = [3.0 if case == heavy else 1.0 for case in batch["case"]]
        assert batch["sample_weight"].tolist() == expected
        seen += expected.count(3.0)
    assert seen > 0
    assert "sample_weight" not in next(iter(weighed.val_dataloader()))
    assert "sample_weight" not in next(iter(data.train_dataloader()))


def test_a_table_is_read_to_train_and_not_to_evaluate(tmp_path: Path) -> None:
    write_task(tmp_path, cases=10)
    names = "".join(f"tiny_{index:02d},0\n" for index in range(10))
    data = DecathlonDataModule(
        str(tmp_path),
        NAME,
        size=(16, 16),
        cache_dir=str(tmp_path / "cache"),
        case_weights=str(tmp_path / "weights.csv"),
    )
    data.setup("validate")
    with pytest.raises(InputError, match="cannot be read"):
        data.setup("fit")
    table(tmp_path, f"case,weight\n{names}")
    with pytest.raises(InputError, match="a weight of 0 for every training case"):
        data.setup("fit")


def test_areas_are_counted_as_the_batches_show_them(tmp_path: Path) -> None:
    write_task(tmp_path, cases=10)
    data = DecathlonDataModule(
        str(tmp_path),
        NAME,
        size=(16, 16),
        cache_dir=str(tmp_path / "cache"),
        merge_labels=False,
        labels=["Posterior"],
        ignore_label="Anterior",
    )
    data.setup("fit")
    assert data.class_names == ("posterior",)
    for padding in (True, False):
        areas, pixels = data.class_areas("val", padding=padding)
        batches = list(data.val_dataloader())
        counted = [
            (torch.ones_like(b["valid"]) if padding else b["valid"]) & ~b["ignored"]
            for b in batches
        ]
        assert areas[:, 0].tolist() == [
            n for b in batches for n in b["mask"].sum((1, 2, 3)).long().tolist()
        ]
        assert pixels.tolist() == [n for c in counted for n in c.sum((1, 2, 3)).tolist()]
        assert any(b["ignored"].any() for b in batches)
        assert not any((b["ignored"] & b["mask"].bool()).any() for b in batches)


def test_what_is_ignored_is_part_of_the_datas_fingerprint(tmp_path: Path) -> None:
    write_task(tmp_path, cases=10)

    def fingerprint(ignore: str | None) -> str:
        data = DecathlonDataModule(
            str(tmp_path),
            NAME,
            size=(16, 16),
            cache_dir=str(tmp_path / "cache"),
            labels=["Posterior"],
            ignore_label=ignore,
        )
        return data.fingerprints("test")["data"]

    assert fingerprint(None) != fingerprint("Anterior")
