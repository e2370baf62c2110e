"""The ten tasks of the Medical Segmentation Decathlon: what each holds and where it is published.

Numbers of cases, channels and labels are those of the published ``dataset.json`` files (Simpson et
al., arXiv:1902.09063, counts a few cases more). Addresses and sums are those that MONAI uses.
"""

import re
from dataclasses import dataclass

from datamodules.wrong_input import unknown_name

PUBLIC_ADDRESS = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
_RELEASE = (("release", "relase"),)


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task before any of its files is there.

    Attributes:
        number: Number of the task, 1 to 10.
        name: Short name, such as ``brain_tumour``.
        folder: Name of its folder, such as ``Task01_BrainTumour``.
        modality: ``CT`` or ``MRI``.
        channels: Names of the image's channels, in order.
        labels: Names of the labels 1, 2, ..., in order; 0 is the background.
        training_cases: Published labelled volumes.
        test_cases: Published volumes without labels.
        md5: Sum of the published tar, in hexadecimal.
        window_hu: For CT, the intensities in Hounsfield units between which the labelled organs
            lie: percentiles 0.5 and 99.5 of the foreground of the training cases, by nnU-Net's rule
            (Isensee et al., Nature Methods 2021), as rounded in ``task_params.py`` of MONAI's
            DynUNet tutorial. None for MRI, whose units are arbitrary.
        misspelt: Keys of ``dataset.json`` that are known to be misspelt there, as pairs of the
            right and the published spelling.
    """

    number: int
    name: str
    folder: str
    modality: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    training_cases: int
    test_cases: int
    md5: str
    window_hu: tuple[float, float] | None = None
    misspelt: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> str:
        """Where the tar is published."""
        return f"{PUBLIC_ADDRESS}/{self.folder}.tar"


TASKS = (
    TaskFacts(
        number=1,
        name="brain_tumour",
        folder="Task01_BrainTumour",
        modality="MRI",
        channels=("FLAIR", "T1w", "t1gd", "T2w"),
        labels=("edema", "non-enhancing tumor", "enhancing tumour"),
        training_cases=484,
        test_cases=266,
        md5="240a19d752f0d9e9101544901065d872",
    ),
    TaskFacts(
        number=2,
        name="heart",
        folder="Task02_Heart",
        modality="MRI",
        channels=("MRI",),
        labels=("left atrium",),
        training_cases=20,
        test_cases=10,
        md5="06ee59366e1e5124267b774dbd654057",
        misspelt=_RELEASE,
    ),
    TaskFacts(
        number=3,
        name="liver",
        folder="Task03_Liver",
        modality="CT",
        channels=("CT",),
        labels=("liver", "cancer"),
        training_cases=131,
        test_cases=70,
        md5="a90ec6c4aa7f6a3d087205e23d4e6397",
        window_hu=(-17, 201),
    ),
    TaskFacts(
        number=4,
        name="hippocampus",
        folder="Task04_Hippocampus",
        modality="MRI",
        channels=("MRI",),
        labels=("Anterior", "Posterior"),
        training_cases=260,
        test_cases=130,
        md5="9d24dba78a72977dbd1d2e110310f31b",
        misspelt=_RELEASE,
    ),
    TaskFacts(
        number=5,
        name="prostate",
        folder="Task05_Prostate",
        modality="MRI",
        channels=("T2", "ADC"),
        labels=("PZ", "TZ"),
        training_cases=32,
        test_cases=16,
        md5="35138f08b1efaef89d7424d2bcc928db",
        misspelt=_RELEASE,
    ),
    TaskFacts(
        number=6,
        name="lung",
        folder="Task06_Lung",
        modality="CT",
        channels=("CT",),
        labels=("cancer",),
        training_cases=63,
        test_cases=32,
        md5="8afd997733c7fc0432f71255ba4e52dc",
        window_hu=(-1024, 325),
    ),
    TaskFacts(
        number=7,
        name="pancreas",
        folder="Task07_Pancreas",
        modality="CT",
        channels=("CT",),
        labels=("pancreas", "cancer"),
        training_cases=281,
        test_cases=139,
        md5="4f7080cfca169fa8066d17ce6eb061e4",
        window_hu=(-96, 215),
        misspelt=_RELEASE,
    ),
    TaskFacts(
        number=8,
        name="hepatic_vessel",
        folder="Task08_HepaticVessel",
        modality="CT",
        channels=("CT",),
        labels=("Vessel", "Tumour"),
        training_cases=303,
        test_cases=140,
        md5="641d79e80ec66453921d997fbf12a29c",
        window_hu=(-3, 243),
    ),
    TaskFacts(
        number=9,
        name="spleen",
        folder="Task09_Spleen",
        modality="CT",
        channels=("CT",),
        labels=("spleen",),
        training_cases=41,
        test_cases=20,
        md5="410d4a301da4e5b2f6f86ec3ddba524e",
        window_hu=(-41, 176),
    ),
    TaskFacts(
        number=10,
        name="colon",
        folder="Task10_Colon",
        modality="CT",
        channels=("CT",),
        labels=("colon cancer primaries",),
        training_cases=126,
        test_cases=64,
        md5="bad7a188931dc2f6acf72b08eb6202d0",
        window_hu=(-30, 165.82),
    ),
)


def find_task(name: str, option: str = "task") -> TaskFacts:
    """Look up a task.

    Args:
        name: Its short name, number or folder name; case, ``-`` and spaces don't matter.
        option: The option that names it, for the message.

    Raises:
        InputError: If there is no such task; the nearest ones are named.
    """
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    for facts in TASKS:
        known = (facts.name, facts.folder.lower(), str(facts.number), f"{facts.number:02d}")
        if plain in known:
            return facts
    raise unknown_name(option=option, kind="task", name=name, known=[facts.name for facts in TASKS])
