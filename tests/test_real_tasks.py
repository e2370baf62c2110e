"""All kinds of real tasks, through every command: MRI and CT, one class and several, one channel
and four, small slices and large ones.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml

from tests.places import ROOT, Place, with_store

pytestmark = pytest.mark.real

# The paper's four attacks at its points, with few repeats.
PAPER: list[tuple[str, dict[str, Any]]] = [
    ("LevelAttack", {"name": "top5_in_range", "levels": [0, 0.05, 0.1, 0.15, 0.2]}),
    ("LevelAttack", {"name": "top5_beyond_range", "levels": [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]}),
    ("CountAttack", {"name": "topn_at_max", "counts": [1, 2, 5, 10, 20, 30, 40, 50], "value": 0.2}),
    ("CountAttack", {"name": "topn_random", "counts": [1, 2, 5, 10, 20, 30, 40, 50], "repeats": 2}),
]
MOST_CASES = 5
# Task, and what fits the crops that are there; where there is one case, splits overlap.
WAYS = {
    "hippocampus, merged": ("hippocampus", "Task04_Hippocampus", []),
    "hippocampus, two classes": (
        "hippocampus",
        "Task04_Hippocampus",
        ["--data.merge_labels", "false"],
    ),
    "left atrium": ("heart", "Task02_Heart", ["--data.size", "[256,256]"]),
    "left atrium, resampled": (
        "heart",
        "Task02_Heart",
        ["--data.size", "[128,128]", "--data.spacing_mm", "[2.5,2.5]"],
    ),
    "spleen": (
        "spleen",
        "Task09_Spleen",
        ["--data.size", "[168,168]", "--data.split", "overlap"],
    ),
    "spleen, tiles and neighbours": (
        "spleen",
        "Task09_Spleen",
        [
            *("--data.size", "[96,96]", "--data.larger", "tile"),
            *("--data.neighbours", "1", "--data.split", "overlap"),
        ],
    ),
    "brain tumour": (
        "brain_tumour",
        "Task01_BrainTumour",
        ["--data.size", "[144,176]", "--data.split", "overlap"],
    ),
}

LONG = {"left atrium"}  # minutes on two cores; `make test-real` has it


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return with_store(Place(tmp_path_factory.mktemp("tasks")), tmp_path_factory)


def few_cases(source: Path, folder: Path) -> Path:
    """Copy the first cases of a task, no more than make folds, and return their root."""
    content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    content["training"] = content["training"][:MOST_CASES]
    for entry in content["training"]:
        for path in entry.values():
            (folder / source.name / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, folder / source.name / path)
    (folder / source.name / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=pytest.mark.slow if way in LONG else ()) for way in WAYS],
)
def test_a_real_task_is_trained_attacked_and_predicted(
    way: str, place: Place, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, task, own = WAYS[way]
    root = few_cases(real_data / task, place.folder / "few")
    attacks = place.folder / "attacks.yaml"
    settings = [
        {"class_path": f"robustness.pixel_attacks.{kind}", "init_args": arguments}
        for kind, arguments in PAPER
    ]
    attacks.write_text(yaml.safe_dump({"robustness": {"attacks": settings}}), encoding="utf-8")
    options = [
        *("--config", str(ROOT / "conf" / "task" / f"{name}.yaml")),
        *("--config", str(ROOT / "conf" / "robustness" / "none.yaml")),
        *("--data.root", str(root), *own),
        *("--data.cache_dir", str(place.folder / "cache"), "--model.channels", "[4,8]"),
        *("--robustness.pictures", "0", "--saliency.trust", "0", "--saliency.cases", "0"),
        *("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "40"),
        *("--trainer.enable_progress_bar", "false"),
    ]
    single = "overlap" in own
    assert place.run("fit", *options) == 0
    assert ("every case is in every split" in capsys.readouterr().out) == single
    (run_id,) = place.run_ids()
    assert ("split" in place.stored(run_id).params) == single
    checkpoint = str(place.checkpoint(run_id))
    assert place.run("test", "--ckpt_path", checkpoint, "--config", str(attacks)) == 0
    metrics = place.stored(run_id).metrics
    assert {f"test/{arguments['name']}/auc" for _, arguments in PAPER} <= metrics.keys()

    folder = place.folder / "masks"
    assert place.run("predict", "--ckpt_path", checkpoint, "--prediction.output", str(folder)) == 0
    scores = pd.read_csv(folder / "scores.csv")
    classes = 2 if "two classes" in way else 1
    assert len(scores) == classes * scores["case"].nunique() >= classes
    for case in scores["case"].unique()[:3]:
        image = nibabel.load(real_data / task / "imagesTr" / f"{case}.nii.gz")
        label = nibabel.load(real_data / task / "labelsTr" / f"{case}.nii.gz")
        mask = nibabel.load(folder / f"{case}.nii.gz")
        assert isinstance(image, nibabel.Nifti1Image)
        assert isinstance(label, nibabel.Nifti1Image)
        assert isinstance(mask, nibabel.Nifti1Image)
        assert mask.shape == image.shape[:3]
        np.testing.assert_array_equal(mask.affine, image.affine)
        assert mask.header["datatype"] == label.header["datatype"]
        assert set(np.unique(np.asanyarray(mask.dataobj))) <= {0, 1, 2}
    if single:
        capsys.readouterr()
        assert place.run("compare", "--experiment", task) == 2
        assert "is no result" in capsys.readouterr().err
