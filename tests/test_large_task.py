"""A task of 40 GB trains within 3 GB of memory, and a warm store opens at once."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.places import ROOT

NAME = "Task98_Large"
CASES = 96
SHAPE = (512, 512, 200)
GIGABYTE = 1_000_000_000
# Slices of float32 with their labels; what is zero takes no room, but it is looked at beforehand.
STORE_BYTES = CASES * 5 * SHAPE[0] * SHAPE[1] * SHAPE[2]

SETUP = """
import sys, time
from datamodules.datamodule import DecathlonDataModule
data = DecathlonDataModule(
    root=sys.argv[1], task=sys.argv[2], size=(512, 512), cache_dir=sys.argv[3], batch_size=4
)
started = time.perf_counter()
data.prepare_data()
data.setup("fit")
loader = data.train_dataloader()
print(time.perf_counter() - started)
"""


def write_sparse(
    path: Path,
    dtype: type[np.generic],
    frames: Mapping[int, NDArray[np.generic]],
) -> None:
    """Write an uncompressed NIfTI volume, zero but for some frames, that takes little room."""
    header = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(dtype)  # type: ignore[no-untyped-call]
    header.set_data_shape(SHAPE)  # type: ignore[no-untyped-call]
    header.set_sform(np.eye(4), code=1)  # type: ignore[no-untyped-call]
    header["vox_offset"], header["magic"] = 352, b"n+1"
    frame_bytes = SHAPE[0] * SHAPE[1] * np.dtype(dtype).itemsize
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(bytes(header.binaryblock) + bytes(4))
        for index, frame in frames.items():
            file.seek(352 + index * frame_bytes)
            file.write(frame.astype(dtype).tobytes(order="F"))
        file.truncate(352 + SHAPE[2] * frame_bytes)


def write_large_task(root: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for case in range(CASES):
        middle = 60 + case % 80
        images, labels = {}, {}
        for index in range(middle, middle + 4):
            image = rng.normal(100, 20, SHAPE[:2])
            label = np.zeros(SHAPE[:2])
            label[200:300, 150:280] = 1
            images[index], labels[index] = image + 60 * label, label
        name = f"large_{case:03d}.nii"
        write_sparse(root / NAME / "imagesTr" / name, np.float64, images)
        write_sparse(root / NAME / "labelsTr" / name, np.uint8, labels)
        pairs.append({"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"})
    content = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "block"},
        "training": pairs,
    }
    (root / NAME / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def resident_bytes(pid: int) -> int:
    """Memory of a process and of all that it began; what several share counts once."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                total = 1024 * int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = (task / "children").read_text(encoding="utf-8").split()
            total += sum(resident_bytes(int(child)) for child in children)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_40_gigabytes_train_within_3_of_memory(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    if free < STORE_BYTES + GIGABYTE:
        pytest.skip(
            f"{free / GIGABYTE:.0f} GB of the disk are free, {STORE_BYTES / GIGABYTE:.0f} needed"
        )
    write_large_task(tmp_path / "data")
    images = (tmp_path / "data" / NAME / "imagesTr").iterdir()
    assert sum(path.stat().st_size for path in images) > 40 * GIGABYTE
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [
        *(sys.executable, str(ROOT / "main.py"), "fit"),
        *("--config", str(ROOT / "conf/robustness/none.yaml")),
        *("--config", str(ROOT / "conf/saliency/none.yaml")),
        *("--data.root", str(tmp_path / "data"), "--data.task", NAME, "--data.size", "[512,512]"),
        *("--data.cache_dir", str(tmp_path / "cache"), "--data.batch_size", "4"),
        *("--data.num_workers", "1", "--model.channels", "[4,8]", "--trainer.accelerator", "cpu"),
        *("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "60"),
        *("--data.eval_batch_size", "4", "--robustness.batch_size", "16"),
        *("--trainer.limit_val_batches", "10", "--trainer.enable_progress_bar", "false"),
    ]
    run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    peak = 0
    try:
        while run.poll() is None:
            peak = max(peak, resident_bytes(run.pid))
            time.sleep(0.2)
    finally:
        run.kill()
        _, told = run.communicate()
    assert run.returncode == 0, told
    assert peak < 3 * GIGABYTE
    arguments = [str(tmp_path / "data"), NAME, str(tmp_path / "cache")]
    setup = subprocess.run(
        [sys.executable, "-c", SETUP, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(setup.stdout) < 2
    print(f"peak {peak / GIGABYTE:.2f} GB, warm setup {float(setup.stdout):.2f} s")
