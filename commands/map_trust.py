"""What the checks of a run said of the methods whose maps are written."""

import json
from collections.abc import Iterator, Sequence

from robustness.attribution_method import Attribution
from robustness.trust_table import UNCHECKED, mark
from tracking.reading import StoredRun, fetch_maps, fetch_trust, list_runs
from tracking.store import open_client, sqlite_path, tracking_uri

_SPLITS = ("test", "val")  # what is said on the former goes first


def stored_marks(
    methods: Sequence[Attribution],
    *,
    run_id: str | None,
    task: str,
    explained: str,
    checkpoint_sha256: str,
) -> dict[str, str]:
    """What must stand beside the maps of some methods, from the run's tables of verdicts.

    A verdict counts if it is on the same weights, the same explained words and the same settings.
    Nothing that is wrong with a store is an error: the maps are none the worse for it.

    Args:
        methods: With their settings.
        run_id: Of the run that made the network; None if there is none.
        task: Name of the task, as which its experiment is looked for first.
        explained: What the maps explain, in words.
        checkpoint_sha256: Of the network's weights.

    Returns:
        For each name empty where all checks are passed, such as ``fails stable``, or ``not
        checked``.
    """
    marks = {method.name: UNCHECKED for method in methods}
    database = sqlite_path(tracking_uri())
    if run_id is None or (database is not None and not database.exists()):
        return marks
    try:
        run = next((run for run in _runs(task) if run.run_id == run_id), None)
        if run is not None:
            for split in reversed(_SPLITS):
                marks |= _marks(run, split, methods, explained, checkpoint_sha256)
    except Exception:  # stores fail in many ways, and their client raises errors of its own
        return {method.name: UNCHECKED for method in methods}
    return marks


def _marks(
    run: StoredRun,
    split: str,
    methods: Sequence[Attribution],
    explained: str,
    checkpoint_sha256: str,
) -> dict[str, str]:
    frame = fetch_trust(run, split)
    if frame is None:
        return {}
    same = (frame["explained"] == explained) & (frame["checkpoint_sha256"] == checkpoint_sha256)
    rows = {str(row["method"]): row for row in frame[same].to_dict("records")}
    # The table does not hold settings, but the maps that were checked do.
    drawn = fetch_maps(run, split)
    told = [json.loads(str(text)) for text in drawn[0].settings] if drawn else []
    settings = {str(one["method"]): {**one, "seed": None} for one in told}
    asked = {method.name: {**method.settings(), "seed": None} for method in methods}
    return {
        name: mark(rows[name])
        for name, one in asked.items()
        if name in rows and settings.get(name, one) == one
    }


def _runs(task: str) -> Iterator[StoredRun]:
    """All runs of the store, those of the task's experiment first."""
    names = [experiment.name for experiment in open_client().search_experiments()]
    for name in sorted(names, key=lambda name: name != task):
        yield from list_runs(name)
