"""``main.py explain`` answers wrong input in one line, and says what it leaves out."""

from pathlib import Path

import pytest
import torch

from callbacks.evaluating import TRAINING_LOSS
from commands.explain import EXPLAINED, LOSSES
from robustness.attribution import METHODS
from robustness.explained import EXPLAINED as ALL_EXPLAINED
from robustness.objectives import OBJECTIVES
from tests.commands.tilted import CASE, hard_place, of_run, plain_place
from tests.datamodules.tiny import start_python
from tests.places import Place


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return plain_place(tmp_path_factory)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return hard_place(tmp_path_factory)


def refused(place: Place, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return place.refused(capsys, "explain", *arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "gradiant"], ["--method", "gradiant", "did you mean gradient", "lime"]),
        (["--case", "blob_03"], ["--case", "blob_03", "blob_003", "nearest"]),
        (["--case", "../blob_003"], ["--case", "../blob_003"]),
        (["--layer", "network.head"], ["--layer", "gradient", "grad_cam"]),
        (["--method", "grad_cam", "--layer", "network.hat"], ["network.hat", "network.head"]),
        (["--method", "all", "--layer", "network.hat"], ["network.hat", "network.head"]),
        (["--method", "grad_cam", "--layer", "network.pool"], ["network.pool", "2 times"]),
        (["--explained", "everything"], ["--explained", "everything", "frozen"]),
        (["--explained", "pixel"], ["no --pixel"]),
        (["--pixel", "1", "2", "3"], ["--explained all", "--pixel"]),
        (["--explained", "pixel", "--pixel", "1", "2"], ["--pixel", "3"]),
        (["--explained", "pixel", "--pixel", "15", "0", "0"], ["--pixel", "15 x 23 x 5", CASE]),
        (["--explained", "pixel", "--pixel", "0", "23", "0"], ["--pixel", "0 23 0"]),
        (["--explained", "pixel", "--pixel", "0", "0", "5"], ["--pixel", "0 0 5"]),
        (["--explained", "pixel", "--pixel", "-1", "0", "0"], ["--pixel", "-1 0 0"]),
        (["--explained", "pixel", "--pixel", "1", "1", "1", "--class", "fore"], ["foreground"]),
        (["--class", "foreground"], ["--class", "--pixel"]),
        (["--value", "odds"], ["--value", "odds"]),
        (["--value", "logit", "--explained", "bce"], ["--value", "logit", "--explained bce"]),
        (["--batch_size", "0"], ["--batch_size", "0"]),
        (["--batch_size", "many"], ["--batch_size", "many"]),
        (["--device", "abacus"], ["--device", "abacus"]),
        (["--device", "meta"], ["--device", "meta"]),
        (["--root", "nowhere"], ["nowhere", "no such folder"]),
        (["--output", "/dev/null/maps"], ["--output /dev/null/maps", "cannot be written"]),
        (["--output", "/proc/maps"], ["--output /proc/maps", "cannot be written"]),
        (["--ckpt_path", "some.ckpt"], ["both", "--run", "--ckpt_path"]),
        (["--split", "test"], ["--split"]),
    ],
    ids=" ".join,
)
def test_wrong_input_is_named(
    options: list[str],
    words: list[str],
    plain: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    common = {"--case": CASE, "--method": "gradient", "--output": str(tmp_path / "maps")}
    rest = [part for name, value in common.items() if name not in options for part in (name, value)]
    line = refused(plain, capsys, *of_run(plain), *options, *rest)
    assert all(word in line for word in words), line
    assert not list(tmp_path.rglob("*.nii.gz"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["none of them", "--run", "--ckpt_path"]),
        (["--run", "nowhere"], ["--run", "found 0", "nowhere"]),
        (["--run", ""], ["--run", "expected one"]),
        (["--ckpt_path", "nowhere.ckpt"], ["--ckpt_path", "nowhere.ckpt"]),
        (["--ckpt_path", "text.ckpt"], ["--ckpt_path", "text.ckpt", "broken"]),
        (["--ckpt_path", "alien.ckpt"], ["alien.ckpt", "another network"]),
    ],
    ids=["none", "no such run", "empty", "no such file", "no checkpoint", "other weights"],
)
def test_a_network_that_cannot_be_had_is_named(
    options: list[str],
    words: list[str],
    plain: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.ckpt").write_text("no checkpoint", encoding="utf-8")
    stored = torch.load(plain.checkpoint(plain.run_ids()[0]), weights_only=True)
    stored["state_dict"].popitem()
    torch.save(stored, "alien.ckpt")
    line = refused(plain, capsys, *options, "--case", CASE, "--method", "gradient")
    assert all(word in line for word in words), line


@pytest.mark.parametrize("missing", ["--case", "--method"])
def test_what_must_be_given_is_named(
    missing: str, plain: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    common = {"--case": CASE, "--method": "gradient"}
    rest = [part for name, value in common.items() if name != missing for part in (name, value)]
    assert missing in refused(plain, capsys, *of_run(plain), *rest)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("deeplift", ["--method deeplift", "instance"]),
        ("guided_backprop", ["--method guided_backprop", "prelu"]),
        ("guided_grad_cam", ["--method guided_grad_cam", "prelu"]),
    ],
)
def test_a_method_that_cannot_work_with_the_network_is_named(
    method: str,
    words: list[str],
    hard: Place,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["--case", CASE, "--method", method, "--output", str(tmp_path)]
    line = refused(hard, capsys, *of_run(hard), *asked).lower()
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


def test_all_leaves_out_what_cannot_work_and_says_so(
    hard: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--case", CASE, "--method", "all", "--output", str(tmp_path)]
    assert hard.run("explain", *of_run(hard), *asked) == 0
    lines = capsys.readouterr().out.splitlines()
    out = {"deeplift", "guided_backprop", "guided_grad_cam"}
    assert {path.name for path in tmp_path.glob("*.nii.gz")} == {
        f"{CASE}_{name}.nii.gz" for name in METHODS if name not in out
    }
    for name in out:
        (line,) = [line for line in lines if line.startswith(f"  {name}: ")]
        assert "left out" in line


def test_all_and_a_name_needs_the_name(
    hard: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--case", CASE, "--method", "deeplift", "all", "--output", str(tmp_path)]
    assert "deeplift" in refused(hard, capsys, *of_run(hard), *asked)


def test_a_class_must_be_named_where_there_are_several(
    hard: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixel = ["--explained", "pixel", "--pixel", "1", "1", "1"]
    asked = [*pixel, "--case", CASE, "--method", "gradient", "--output", str(tmp_path)]
    line = refused(hard, capsys, *of_run(hard), *asked)
    assert all(word in line for word in ("--class", "front", "back"))


def test_help_names_every_method_and_answers_at_once(plain: Place) -> None:
    process = plain.start("explain", "--help")
    out, _ = process.communicate(timeout=60)
    said = " ".join(out.split())
    assert all(name in said for name in METHODS)
    # What attacks increase can be explained too; three are sums with a name of their own.
    losses = set(OBJECTIVES) - {"probability_sum", "logit_sum", "margin"}
    assert {*LOSSES} == {*losses, TRAINING_LOSS}
    assert {*EXPLAINED} == {*ALL_EXPLAINED}
    code = (
        "import sys, main\n"
        "try: main.main(['explain', '--help'])\n"
        "except SystemExit: print('torch' in sys.modules, file=sys.stderr)\n"
    )
    probe = start_python(code)
    _, error = probe.communicate(timeout=60)
    assert error.strip() == "False"
