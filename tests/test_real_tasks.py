"""Other tasks than the hippocampus, on real volumes: CT, several channels, larger slices."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from tests.places import ROOT, Place, with_store

pytestmark = pytest.mark.real

# One case each, so that splits overlap; cut to what holds the crops that are there.
SINGLE = {
    "spleen": ("Task09_Spleen", "[168,168]"),
    "brain_tumour": ("Task01_BrainTumour", "[144,176]"),
}


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return with_store(Place(tmp_path_factory.mktemp("tasks")), tmp_path_factory)


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_case_is_trained_attacked_and_predicted(
    name: str, place: Place, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, size = SINGLE[name]
    options = [
        *("--config", str(ROOT / "conf" / "task" / f"{name}.yaml")),
        *("--config", str(ROOT / "conf" / "robustness" / "quick.yaml")),
        *("--data.root", str(real_data), "--data.size", size, "--data.split", "overlap"),
        *("--data.cache_dir", str(place.folder / "cache"), "--model.channels", "[4,8]"),
        *("--robustness.pictures", "0", "--saliency.trust", "0", "--saliency.cases", "0"),
        *("--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"),
    ]
    assert place.run("fit", *options, "--test_after_fit", "true") == 0
    assert "every case is in every split" in capsys.readouterr().out
    (run_id,) = place.run_ids()
    stored = place.stored(run_id)
    assert stored.params["split"] == "overlap"
    assert "test/topn_at_max/auc" in stored.metrics
    folder = place.folder / "masks"
    checkpoint = str(place.checkpoint(run_id))
    output = ["--prediction.output", str(folder)]
    assert place.run("predict", "--ckpt_path", checkpoint, *output) == 0
    (case,) = pd.read_csv(folder / "scores.csv")["case"]
    image = nibabel.load(real_data / task / "imagesTr" / f"{case}.nii.gz")
    mask = nibabel.load(folder / f"{case}.nii.gz")
    assert isinstance(image, nibabel.Nifti1Image)
    assert isinstance(mask, nibabel.Nifti1Image)
    assert mask.shape == image.shape[:3]
    np.testing.assert_array_equal(mask.affine, image.affine)
    capsys.readouterr()
    assert place.run("compare", "--experiment", task) == 2
    assert "is no result" in capsys.readouterr().err
