"""Which charts stand where on the dashboards of an experiment, decided by the names of its metrics.

Pure functions of what the runs hold: nobody has to choose anything, and every process that looks at
the same runs arrives at the same dashboards.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from tracking.views_format import (
    TAG_LIMIT,
    Chart,
    Grid,
    Section,
    View,
    encode,
    view_state,
)

OWN_KEYS = "segstress-"
RUNS_KEY, LOSSES_KEY = f"{OWN_KEYS}runs", f"{OWN_KEYS}losses"
_AXES = {
    "pixels": "number of pixels",
    "level": "level of the pixels",
    "epsilon": "epsilon",
    "severity": "severity",
}
# What a run holds of an attack beside its axis.
_MEASURES = {"dice", "slice_dice", "change", "epsilon_share", "auc", "ece", "repeats"}
_AT_POINTS = ("dice_at_", "never_broken_at_", "median_distance_at_")
_VARIANTS = ("", "_control", "_abs", "_logit")
_NO_ATTACKS = {"loss", "spread", "spread_by_case", "trust"}
_GRID_HEADER, _GRID_ROW = 190, 160  # pixels: what stands above and below a grid, and its rows
_PICTURES = {
    "saliency": "Saliency: a row a case, a column a run",
    "attacks": "Masks under attack: a row a case, a column a run",
}


@dataclass(frozen=True)
class AttackKeys:
    """An attack as the metrics of a split name it.

    Attributes:
        name: Its name.
        axis: Last part of the key of its axis.
    """

    name: str
    axis: str

    @property
    def family(self) -> tuple[str, int]:
        """Name of the attack that this one varies, and its place beside it."""
        for place, suffix in reversed([*enumerate(_VARIANTS)]):
            if suffix and self.name.endswith(suffix):
                return self.name.removesuffix(suffix), place
        return self.name, 0


def find_attacks(metrics: Iterable[str], split: str) -> list[AttackKeys]:
    """The attacks whose curves a split has, those that vary another beside it.

    Args:
        metrics: Keys of metrics.
        split: ``val`` or ``test``.
    """
    parts: dict[str, set[str]] = {}
    for key in metrics:
        head, *rest = key.split("/")
        if head == split and len(rest) == 2 and rest[0] not in _NO_ATTACKS:  # noqa: PLR2004
            parts.setdefault(rest[0], set()).add(rest[1])
    found = []
    for name, measured in parts.items():
        axes = {part for part in measured - _MEASURES if not part.startswith(_AT_POINTS)}
        if "dice" in measured and len(axes) == 1:
            found.append(AttackKeys(name, axes.pop()))
    order = [*_AXES]
    # A curve can be read beside its control: those that have one come first.
    controlled = {attack.family[0] for attack in found if attack.name.endswith("_control")}
    return sorted(
        found,
        key=lambda attack: (
            order.index(attack.axis) if attack.axis in order else len(order),
            attack.axis,
            attack.family[0] not in controlled,
            attack.family,
        ),
    )


def plan_views(metrics: Collection[str], images: Collection[str]) -> list[View]:
    """The dashboards of an experiment.

    One shows each run by itself, one the mean of each loss with the band over its seeds; both are
    about the test set, or about the validation set as long as no test was attacked. Where both
    were, the validation set has two of its own. An experiment of so many attacks that a dashboard
    would exceed what a tag holds gets several of each.

    Args:
        metrics: Keys of the metrics of all runs.
        images: Keys of the pictures of all runs.
    """
    if not metrics:
        return []
    attacked = [split for split in ("test", "val") if find_attacks(metrics, split)]
    main = attacked[0] if attacked else "val"
    views = _of_split(main, metrics, images, RUNS_KEY, LOSSES_KEY)
    if len(attacked) > 1:
        keys = (f"{OWN_KEYS}val-runs", f"{OWN_KEYS}val-losses")
        views += _of_split("val", metrics, images, *keys)
    return views


def fitting_state(view: View, metrics: Collection[str], images: Collection[str]) -> dict[str, Any]:
    """The state of a view, so that it fits into a tag.

    Args:
        view: The dashboard.
        metrics: Keys of the metrics of all runs.
        images: Keys of their pictures.

    Returns:
        As from :func:`tracking.views_format.view_state`; where there are too many keys, the last of
        them are not mentioned and MLflow shows them below.
    """
    hidden_metrics, hidden_images = sorted(metrics), sorted(images)
    while True:
        state = view_state(view, hidden_metrics, hidden_images)
        if _fits(view, state) or not (hidden_metrics or hidden_images):
            return state
        hidden_metrics = hidden_metrics[: len(hidden_metrics) * 3 // 4]
        hidden_images = hidden_images[: len(hidden_images) * 3 // 4]


def _of_split(
    split: str, metrics: Collection[str], images: Collection[str], runs_key: str, losses_key: str
) -> list[View]:
    about = {"test": "test set", "val": "validation set"}[split]
    attacks = find_attacks(metrics, split)
    families = list(dict.fromkeys(attack.family[0] for attack in attacks))
    views = []
    for key, how, group_by in ((runs_key, "by run", ""), (losses_key, "by loss", "loss")):
        for parts in range(1, len(families) + 2):
            planned = []
            for part in range(parts):
                chosen = families[
                    part * len(families) // parts : (part + 1) * len(families) // parts
                ]
                mine = [attack for attack in attacks if attack.family[0] in chosen]
                name = f"SegStress: {about} {how}" + (f" ({part + 1} of {parts})" if part else "")
                sections = _sections(
                    split, mine, metrics, () if group_by else images, first=not part
                )
                planned.append(View(f"{key}-{part + 1}" if part else key, name, sections, group_by))
            if all(_fits(view, view_state(view, (), ())) for view in planned):
                break
        views += planned
    return views


def _sections(
    split: str,
    attacks: list[AttackKeys],
    metrics: Collection[str],
    images: Collection[str],
    *,
    first: bool,
) -> tuple[Section, ...]:
    found: list[Section] = []
    if first:
        found.append(_clean(split, metrics))
    for axis in dict.fromkeys(attack.axis for attack in attacks):
        charts = tuple(
            Chart(
                f"{split}/{attack.name}/dice",
                axis=f"{split}/{attack.name}/{axis}",
                unit_range=True,
            )
            for attack in attacks
            if attack.axis == axis
        )
        found.append(Section(f"Dice against {_AXES.get(axis, axis)}", charts))
    if first:
        found += [_pictures(images, folder, title) for folder, title in _PICTURES.items()]
    areas = tuple(
        Chart(f"{split}/{attack.name}/auc", kind="BAR")
        for attack in attacks
        if f"{split}/{attack.name}/auc" in metrics
    )
    found.append(
        Section("Area under each curve: the mean Dice over its axis", areas, columns=3, height=280)
    )
    if first:
        found.append(_ledger(metrics))
        found.append(_pictures(images, "ledger", "Loss ledger: epoch by class, a column a run"))
    return tuple(section for section in found if section.cards)


def _pictures(images: Collection[str], folder: str, title: str) -> Section:
    whole = sorted(key for key in images if key.startswith(f"{folder}/") and key.count("/") == 1)
    # Whole figures are strips, which a cell of the grid makes too small to read.
    keys = sorted(key for key in images if key.startswith(f"grid/{folder}/")) or whole
    height = _GRID_HEADER + _GRID_ROW * len(keys)
    return Section(title, (Grid(tuple(keys)),) if keys else (), columns=1, height=height)


def _clean(split: str, metrics: Collection[str]) -> Section:
    classes = sorted(key for key in metrics if key.startswith(f"{split}/dice/"))
    bars = [f"{split}/dice", *(classes if len(classes) > 1 else [])]
    charts = [Chart(key, kind="BAR") for key in bars if key in metrics]
    if "val/dice" in metrics:
        charts.append(Chart("val/dice", unit_range=True))
    return Section("Dice on clean images", tuple(charts))


def _ledger(metrics: Collection[str]) -> Section:
    totals = [Chart(f"{split}/loss") for split in ("train", "val") if f"{split}/loss" in metrics]
    terms = [Chart(key) for key in sorted(metrics) if key.startswith("train/loss/")]
    return Section(
        "Loss ledger: what each term of the training loss adds, by epoch", (*totals, *terms)
    )


def _fits(view: View, state: dict[str, Any]) -> bool:
    latest = 10**13
    return len(encode(view.name, state, created=latest, updated=latest)) <= TAG_LIMIT
