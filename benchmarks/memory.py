"""How much memory a training and its attacks hold, on few volumes and on many."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.timing import Ratio, ratio_of, write_results
from datamodules.phantom import write_phantom
from datamodules.store import MOST_MAPPED_BYTES

_ROOT = Path(__file__).resolve().parents[1]
_TASK = "Task00_Phantom"
_CONFIG = """
robustness:
  attacks:
    - class_path: robustness.pixel_attacks.LevelAttack
      init_args: {name: top5_in_range, levels: [0.1]}
  pictures: 0
saliency: {splits: []}
"""


def peak_gigabytes(volumes: int, scratch: Path) -> float:
    """Most resident memory of ``fit`` with ``--test_after_fit`` on made volumes, in GB.

    Args:
        volumes: How many.
        scratch: An empty folder.
    """
    write_phantom(scratch, cases=volumes, name=_TASK)
    config = scratch / "config.yaml"
    config.write_text(_CONFIG, encoding="utf-8")
    command = [sys.executable, str(_ROOT / "main.py"), "fit", "--config", str(config)]
    command += ["--data.root", str(scratch), "--data.task", _TASK, "--trainer.max_epochs", "1"]
    command += ["--trainer.limit_train_batches", "50", "--test_after_fit", "true"]
    command += ["--trainer.accelerator", "cpu"]
    child = subprocess.Popen(
        command,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db"},
        cwd=scratch,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"fit on {volumes} volumes ended with {child.returncode}")
    # Linux counts in KiB, macOS in bytes.
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def measure(few: int = 60, many: int = 2000) -> tuple[list[Ratio], list[str]]:
    """Compare few volumes with many.

    Returns:
        The ratio, and both numbers in words.
    """
    found = []
    for volumes in (few, many):
        with TemporaryDirectory(prefix="segstress-bench-") as scratch:
            found.append(peak_gigabytes(volumes, Path(scratch)))
    name = f"most resident memory, {many} volumes / {few}"
    words = ", ".join(
        f"{volumes} volumes: {peak:.2f} GB"
        for volumes, peak in zip((few, many), found, strict=True)
    )
    ratio = replace(ratio_of(name, [found[1]], [found[0]], goal="flat"), seconds=math.nan)
    mapped = f"{MOST_MAPPED_BYTES / 1e9:.2f} GB"
    return [ratio], [
        f"{words}. Asked: under 1.5 GB. Pages of memory maps count, which the system takes back "
        f"when it needs them: at most {mapped} are open."
    ]


if __name__ == "__main__":
    ratios, lines = measure()
    print(write_results("Memory of fit and test", ratios, lines))
