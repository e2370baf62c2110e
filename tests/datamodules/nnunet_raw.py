"""Raw folders of nnU-Net, made of Decathlon folders with the same volumes."""

import json
from pathlib import Path

import nibabel
import numpy as np

from tests.datamodules.inspected import save

NNUNET = "Dataset077_Tiny"


def as_nnunet(folder: Path, *, ending: str = ".nii.gz") -> Path:
    """Write the volumes of a Decathlon folder as a raw folder of nnU-Net beside it."""
    made = folder.with_name(NNUNET)
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    channels = content["modality"]
    for pair in content["training"]:
        stem = Path(pair["image"]).name.removesuffix(".gz").removesuffix(".nii")
        image = nibabel.load(folder / pair["image"])
        voxels = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
        for index in range(len(channels)):
            channel = voxels[..., index] if voxels.ndim == 4 else voxels
            affine = image.affine  # type: ignore[attr-defined]
            save(made / f"imagesTr/{stem}_{index:04d}{ending}", channel, affine)
        label = nibabel.load(folder / pair["label"])
        save(
            made / f"labelsTr/{stem}{ending}",
            np.asanyarray(label.dataobj),  # type: ignore[attr-defined]
            label.affine,  # type: ignore[attr-defined]
        )
    described = {
        "channel_names": channels,
        "labels": {name: int(value) for value, name in content["labels"].items()},
        "numTraining": len(content["training"]),
        "file_ending": ending,
    }
    (made / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return made
