"""Maps of whole cases are those of their slices, lie where the images lie, and are whole files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from datamodules.datamodule import DecathlonDataModule
from datamodules.safe_name import safe_name
from lightning_module.module import SegmentationModule
from robustness.attribution import METHODS, explain
from robustness.attribution_layers import GradCam
from robustness.explained import explained, logit, one_pixel, probability
from robustness.objectives import OBJECTIVES
from tests.commands.tilted import (
    CASE,
    FOLD,
    ODD,
    SHAPE,
    affine,
    check,
    exclusive_place,
    expected_slice,
    facts_of,
    hard_network,
    hard_place,
    load,
    of_run,
    one_slice,
    plain_network,
    plain_place,
)
from tests.places import ROOT, TASK, Place

SEED = 3


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return plain_place(tmp_path_factory)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return hard_place(tmp_path_factory)


@pytest.fixture(scope="module")
def written(plain: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one call with all methods."""
    folder = tmp_path_factory.mktemp("written")
    options = ["--case", CASE, "--method", "all", "--seed", str(SEED), "--output", str(folder)]
    with plain.unharmed():
        assert plain.run("explain", *of_run(plain), *options) == 0
    return folder


# What is written


@pytest.mark.parametrize("name", METHODS)
def test_a_map_is_that_of_each_slice_by_itself(name: str, plain: Place, written: Path) -> None:
    volume, network = load(written / f"{CASE}_{name}.nii.gz"), plain_network(plain)
    assert np.abs(volume).max() > 0
    for frame in range(SHAPE[2]):
        batch = one_slice(plain, network, CASE, frame)
        objective = explained("all", batch)
        # Differences of a sum over all pixels cannot be finer than the sum itself.
        coarse = name in {"occlusion", "lime"}
        rounding = float(batch.value(objective, batch.image)) * 2.0**-23 if coarse else 0.0
        expected = expected_slice(batch, network, METHODS[name](), objective, SEED)
        assert rounding < np.abs(expected).max() / 10
        check(volume, frame, expected, rounding)


@pytest.mark.parametrize("name", METHODS)
def test_a_map_lies_over_its_image(name: str, plain: Place, written: Path) -> None:
    image = nibabel.load(plain.task / f"imagesTr/{CASE}.nii.gz")
    drawn = nibabel.load(written / f"{CASE}_{name}.nii.gz")
    assert isinstance(drawn, nibabel.Nifti1Image)
    assert isinstance(image, nibabel.Nifti1Image)
    assert drawn.shape == image.shape == SHAPE
    assert drawn.header["datatype"] == image.header["datatype"] == 16  # float32
    np.testing.assert_array_equal(drawn.affine, image.affine)
    np.testing.assert_allclose(drawn.affine, affine(), atol=1e-5)
    np.testing.assert_array_equal(drawn.header["pixdim"][:4], image.header["pixdim"][:4])
    assert (int(drawn.header["qform_code"]), int(drawn.header["sform_code"])) == (1, 2)
    assert drawn.header.get_xyzt_units() == ("mm", "unknown")  # type: ignore[no-untyped-call]
    said = bytes(drawn.header["descrip"]).rstrip(b"\0").decode()
    assert said == f"{name}: sum of p"


@pytest.mark.parametrize("name", METHODS)
def test_facts_stand_beside_a_map(name: str, plain: Place, written: Path) -> None:
    path = written / f"{CASE}_{name}.nii.gz"
    facts, volume = facts_of(path), load(path)
    assert facts["run"] == plain.run_ids()[0]
    assert facts["checkpoint"] == str(plain.checkpoint(facts["run"]))
    assert (facts["case"], facts["method"], facts["task"]) == (CASE, name, TASK)
    assert facts["settings"] == METHODS[name]().__dict__
    assert facts["explained"] == "sum of p"
    assert facts["unit"].count("sum of p") == METHODS[name].unit.count("{}")
    assert facts["largest"] == pytest.approx(float(np.abs(volume).max()), rel=1e-9)
    assert facts["seed"] == SEED
    assert facts["revision"]
    assert facts["signed"] == METHODS[name]().signed


def test_each_method_gives_two_files_and_nothing_else(written: Path) -> None:
    ends = ("nii.gz", "json")
    names = {f"{CASE}_{name}.{end}" for name in METHODS for end in ends}
    assert {path.name for path in written.iterdir()} == names


def test_what_lies_in_padding_is_told(plain: Place, written: Path) -> None:
    network, whole, kept = plain_network(plain), 0.0, 0.0
    for frame in range(SHAPE[2]):
        batch = one_slice(plain, network, CASE, frame)
        found = explain(METHODS["gradient"](), network, batch, explained("all", batch)).abs()
        whole += float(found.sum())
        kept += float(found[..., : SHAPE[0], : SHAPE[1]].sum())
    told = facts_of(written / f"{CASE}_gradient.nii.gz")["share_in_padding"]
    assert 0 < told < 1
    assert told == pytest.approx(1 - kept / whole, abs=1e-4)
    assert facts_of(written / f"{CASE}_lime.nii.gz")["share_in_padding"] == 0


@pytest.mark.parametrize("value", ["probability", "logit"])
@pytest.mark.parametrize("what", ["predicted", "truth", "frozen", "margin"])
def test_other_things_can_be_explained(
    what: str, value: str, plain: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--explained", what, "--value", value, "--case", CASE, "--method", "gradient"]
    # A batch that is not full, and one slice alone in the second.
    asked += ["--batch_size", "4", "--output", str(tmp_path / "maps")]
    assert plain.run("explain", *of_run(plain), *asked) == 0
    path = tmp_path / "maps" / f"{CASE}_gradient.nii.gz"
    network = plain_network(plain)
    for frame in range(SHAPE[2]):
        batch = one_slice(plain, network, CASE, frame)
        objective = explained(what, batch, {"probability": probability, "logit": logit}[value])
        check(load(path), frame, expected_slice(batch, network, METHODS["gradient"](), objective))
    facts = facts_of(path)
    assert (facts["objective"]["explained"], facts["objective"]["value"]) == (what, value)
    assert facts["explained"].split()[2] == {"probability": "p", "logit": "z"}[value]
    assert facts["explained"] in capsys.readouterr().out


@pytest.mark.parametrize("loss", ["bce", "soft_dice"])
def test_a_loss_can_be_explained(loss: str, plain: Place, tmp_path: Path) -> None:
    options = ["--case", CASE, "--method", "gradient", "--explained", loss]
    assert plain.run("explain", *of_run(plain), *options, "--output", str(tmp_path)) == 0
    path = tmp_path / f"{CASE}_gradient.nii.gz"
    network = plain_network(plain)
    for frame in range(SHAPE[2]):
        batch = one_slice(plain, network, CASE, frame)
        objective = OBJECTIVES[loss]
        check(load(path), frame, expected_slice(batch, network, METHODS["gradient"](), objective))
    assert facts_of(path)["unit"] == f"d({loss.replace('_', ' ')}) / d(intensity)"


def test_channels_are_a_fourth_axis(hard: Place, tmp_path: Path) -> None:
    asked = ["--case", CASE, "--method", "gradient_x_input", "--output", str(tmp_path)]
    assert hard.run("explain", *of_run(hard), *asked) == 0
    path = tmp_path / f"{CASE}_gradient_x_input.nii.gz"
    assert load(path).shape == (*SHAPE, 2)
    image = nibabel.load(hard.task / f"imagesTr/{CASE}.nii.gz")
    np.testing.assert_array_equal(nibabel.load(path).affine, image.affine)  # type: ignore[attr-defined]
    network = hard_network(hard)
    for frame in range(SHAPE[2]):
        batch = one_slice(hard, network, CASE, frame)
        method, objective = METHODS["gradient_x_input"](), explained("all", batch)
        check(load(path), frame, expected_slice(batch, network, method, objective))


@pytest.mark.parametrize(("class_name", "index"), [("front", 0), ("back", 1)])
def test_one_pixel_of_one_class_is_explained(
    class_name: str, index: int, hard: Place, tmp_path: Path
) -> None:
    pixel = ["--explained", "pixel", "--pixel", "9", "14", "2", "--class", class_name]
    asked = [*pixel, "--case", CASE, "--method", "gradient", "--output", str(tmp_path)]
    assert hard.run("explain", *of_run(hard), *asked) == 0
    path = tmp_path / f"{CASE}_gradient.nii.gz"
    volume, network = load(path), hard_network(hard)
    batch = one_slice(hard, network, CASE, 2)
    objective = one_pixel(9, 14, index)
    check(volume, 2, expected_slice(batch, network, METHODS["gradient"](), objective))
    assert np.abs(volume[:, :, 2]).max() > 0
    assert not np.delete(volume, 2, axis=2).any()
    assert facts_of(path)["explained"] == f"p of {class_name} at voxel (9, 14, 2)"


def sizes_of(place: Place, *options: str) -> set[int]:
    """Sizes of the batches that go through the network."""
    seen: set[int] = set()

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, SegmentationModule):
            seen.add(len(inputs[0]))

    handle = register_module_forward_pre_hook(note)
    try:
        assert place.run("explain", *of_run(place), "--case", CASE, *options) == 0
    finally:
        handle.remove()
    return seen


def test_a_small_case_is_not_filled_up_to_a_large_batch(
    plain: Place, written: Path, tmp_path: Path
) -> None:
    common = ["--method", "smoothgrad", "--seed", str(SEED), "--output", str(tmp_path)]
    assert sizes_of(plain, *common, "--batch_size", "100000") == {16}
    name = f"{CASE}_smoothgrad.nii.gz"
    np.testing.assert_array_equal(load(tmp_path / name), load(written / name))
    assert sizes_of(plain, *common, "--batch_size", "3") == {3}


def test_a_pixel_s_slice_goes_through_the_network_alone(plain: Place, tmp_path: Path) -> None:
    asked = ["--explained", "pixel", "--pixel", "9", "14", "2", "--method", "gradient", "occlusion"]
    assert sizes_of(plain, *asked, "--output", str(tmp_path)) == {1}


def test_every_method_works_behind_a_softmax(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = exclusive_place(tmp_path_factory)
    common = ["--case", CASE, "--output", str(tmp_path)]
    assert place.run("explain", *of_run(place), *common, "--method", "all") == 0
    assert "left out" not in capsys.readouterr().out
    for name in METHODS:
        assert np.abs(load(tmp_path / f"{CASE}_{name}.nii.gz")).max() > 0
    # A loss of a softmax cannot be had from leads.
    asked = ["--method", "gradient", "--explained", "training_loss"]
    assert place.run("explain", *of_run(place), *common, *asked) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --explained training_loss: unknown; expected one of")
    assert "attack" not in line


def test_a_layer_can_be_named(plain: Place, written: Path, tmp_path: Path) -> None:
    asked = ["--case", CASE, "--method", "gradient", "grad_cam", "--output", str(tmp_path)]
    assert plain.run("explain", *of_run(plain), *asked, "--layer", "network.encoder.1") == 0
    volume, network = load(tmp_path / f"{CASE}_grad_cam.nii.gz"), plain_network(plain)
    for frame in range(SHAPE[2]):
        batch = one_slice(plain, network, CASE, frame)
        method = GradCam(layer="encoder.1")
        check(volume, frame, expected_slice(batch, network, method, explained("all", batch)))
    assert not np.allclose(volume, load(written / f"{CASE}_grad_cam.nii.gz"))
    facts = facts_of(tmp_path / f"{CASE}_grad_cam.nii.gz")
    assert facts["settings"]["layer"] == "network.encoder.1"
    assert facts_of(tmp_path / f"{CASE}_gradient.nii.gz")["settings"] == {}


# Which network, which cases, where


def test_cases_of_any_split_are_explained_and_their_split_is_told(
    plain: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DecathlonDataModule(
        root=str(plain.task.parent),
        task=TASK,
        fold=FOLD,
        size=(32, 32),
        cache_dir=str(plain.folder / "cache"),
    )
    chosen = {data.split_cases(split)[0]: split for split in ("test", "train", "val")}
    cases = [part for case in chosen for part in ("--case", case)]
    options = [*cases, "--method", "gradient", "--output", str(tmp_path)]
    assert plain.run("explain", *of_run(plain), *options) == 0
    lines = capsys.readouterr().out.splitlines()
    for case, split in chosen.items():
        path = tmp_path / f"{safe_name(case)}_gradient.nii.gz"
        assert facts_of(path)["split"] == split
        position = next(i for i, line in enumerate(lines) if line.startswith(f"{safe_name(case)} "))
        assert f"({split})" in lines[position]
        assert "15 x 23 x 5" in lines[position]
        said = lines[position + 1]
        assert str(path) in said
        assert f"{facts_of(path)['largest']:.3g} d(sum of p) / d(intensity)" in said
        assert said.endswith(" s")


def test_a_checkpoint_is_its_run_and_calls_repeat(plain: Place, tmp_path: Path) -> None:
    last = plain.checkpoint(plain.run_ids()[0])
    common = ["--case", CASE, "--method", "smoothgrad", "--output"]
    one, two, other = (str(tmp_path / name) for name in ("one", "two", "other"))
    assert plain.run("explain", *of_run(plain), *common, one) == 0
    assert plain.run("explain", "--ckpt_path", str(last), *common, two) == 0
    assert plain.run("explain", *of_run(plain), *common, other, "--seed", "1") == 0
    for end in ("nii.gz", "json"):
        contents = [
            Path(folder, f"{CASE}_smoothgrad.{end}").read_bytes() for folder in (one, two, other)
        ]
        assert contents[0] == contents[1] != contents[2]


def test_maps_go_beside_the_store_unless_told_otherwise(plain: Place) -> None:
    run_id = plain.run_ids()[0]
    best = str(plain.checkpoint(run_id, "best"))
    common = ["--case", CASE, "--method", "gradient"]
    assert plain.run("explain", *of_run(plain), *common) == 0
    assert plain.run("explain", "--ckpt_path", best, *common) == 0
    for folder, name in ((run_id[:8], "last"), (f"{run_id[:8]}_best", "best")):
        path = plain.store / "explained" / folder / f"{CASE}_gradient.nii.gz"
        assert facts_of(path)["checkpoint"] == str(plain.checkpoint(run_id, name))


def test_a_case_of_an_odd_name_stays_in_the_folder(plain: Place, tmp_path: Path) -> None:
    asked = ["--case", ODD, "--method", "gradient", "--output", str(tmp_path / "maps")]
    assert plain.run("explain", *of_run(plain), *asked) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["maps"]
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    assert names == {f"{safe_name(ODD)}_gradient.{end}" for end in ("nii.gz", "json")}
    assert facts_of(tmp_path / "maps" / f"{safe_name(ODD)}_gradient.nii.gz")["case"] == ODD


@pytest.mark.slow
def test_a_killed_call_leaves_whole_files_alone(plain: Place, tmp_path: Path) -> None:
    """Killed once the first file of many is there; the others are whole or are not."""
    cases = [part for index in range(16) if index != 4 for part in ("--case", f"blob_{index:03d}")]
    options = [*cases, "--method", "gradient", "grad_cam", "--output", str(tmp_path / "maps")]
    process = plain.start("explain", *of_run(plain), *options)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("maps/*.nii.gz")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    files = list(tmp_path.glob("maps/*.nii.gz"))
    assert 0 < len(files) < 30
    for path in files:
        assert load(path).shape == SHAPE
    for path in tmp_path.glob("maps/*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["run"]


@pytest.mark.slow
def test_a_full_disk_is_named_and_leaves_no_half_file(
    plain: Place, tmpfs: list[str], tmp_path: Path
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    options = ["--case", CASE, "--method", "all", "--output", str(disk)]
    command = [sys.executable, str(ROOT / "main.py"), "explain", *of_run(plain), *options]
    # What is on the disk is gone with the mount.
    copying = 'from=$1 to=$2; shift 2; "$@"; status=$?; cp -r "$from" "$to"; exit $status'
    copied = ["sh", "-c", copying, "sh", str(disk), str(kept)]
    done = subprocess.run(
        [*tmpfs, "size=24k", str(disk), *copied, *command],
        cwd=plain.folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": plain.uri},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: --output {disk}: cannot be written (No space left")
    names = sorted(path.name for path in kept.iterdir())
    assert f"{CASE}_gradient.nii.gz" in names
    for name in names:
        assert name.endswith((".nii.gz", ".json"))
        if name.endswith(".nii.gz"):
            assert load(kept / name).shape == SHAPE
        else:
            assert json.loads((kept / name).read_text(encoding="utf-8"))["case"] == CASE
