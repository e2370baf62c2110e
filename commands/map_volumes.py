"""Attribution maps of whole cases, computed slice by slice and written as volumes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from callbacks.evaluating import objectives_of, weights_sha256
from commands.map_trust import stored_marks
from commands.stored_networks import RestoredCheckpoint
from datamodules.datamodule import SPLITS, DecathlonDataModule
from datamodules.decathlon import Case
from datamodules.original_grid import write_volume
from datamodules.output_folder import writing_to
from datamodules.safe_name import safe_name
from datamodules.slice_grid import SliceGrid
from datamodules.whole_file import write_whole
from datamodules.wrong_input import unknown_name, wrong_input
from errors import InputError
from lightning_module.module import SegmentationModule
from robustness.attack import AttackBatch
from robustness.attribution import METHODS, explain, find_method
from robustness.attribution_method import Attribution
from robustness.batches import attack_batch, fixed_size
from robustness.explained import (
    PixelValue,
    check_explained,
    explained,
    explained_words,
    logit,
    one_pixel,
    probability,
)
from robustness.objectives import Objective
from tracking.environment import git_revision
from tracking.store import runs_dir

ALL = "all"
_LAST = "last"  # the checkpoint that --run stands for
_SMALLEST_BATCH = 16  # small cases are filled up to it: small batches round in other ways
_VALUES: dict[str, tuple[PixelValue, str]] = {
    "probability": (probability, "p"),
    "logit": (logit, "z"),
}
_WITH_A_PASS = {"frozen", "margin"}  # of their own, to predict


class AskedMethod(NamedTuple):
    """A method, and whether maps without it are an error."""

    method: Attribution
    needed: bool


@dataclass(frozen=True)
class Explanation:
    """What is explained.

    Attributes:
        explained: ``all``, ``predicted``, ``truth``, ``frozen``, ``margin``, a loss, or ``pixel``.
        value: ``probability`` or ``logit``; a loss has none.
        pixel: Row, column and slice of the pixel, in voxels of the volume, or of the slices; None
            for the others.
        class_name: Its class; None for the only one.
    """

    explained: str
    value: str
    pixel: tuple[int, int, int] | None = None
    class_name: str | None = None

    def words(self, class_names: Sequence[str]) -> str:
        """What is explained, in a few words."""
        symbol = _VALUES[self.value][1]
        if self.pixel is None:
            return explained_words(self.explained, symbol)
        return f"{symbol} of {class_names[self.class_index(class_names)]} at voxel {self.pixel}"

    def objective(self, batch: AttackBatch, class_names: Sequence[str]) -> Objective:
        """The objective of a batch."""
        value = _VALUES[self.value][0]
        if self.pixel is None:
            return explained(self.explained, batch, value)
        row, column, _ = self.pixel
        return one_pixel(row, column, self.class_index(class_names), value)

    def class_index(self, class_names: Sequence[str]) -> int:
        """Position of the pixel's class.

        Raises:
            InputError: If there is no such class, or none is named where there are several.
        """
        if self.class_name is None and len(class_names) > 1:
            raise wrong_input(
                at="--class",
                found="none",
                expected=f"one of {', '.join(class_names)}",
                do="say which class of the pixel is explained",
            )
        if self.class_name is not None and self.class_name not in class_names:
            raise unknown_name(
                option="--class", kind="class", name=self.class_name, known=class_names
            )
        return 0 if self.class_name is None else list(class_names).index(self.class_name)

    def on(self, grid: SliceGrid, case: str) -> "Explanation":
        """The same, with the pixel of a slice in place of the voxel that lies there.

        Args:
            grid: Where the slices of the case lie.
            case: Its name.

        Returns:
            ``pixel`` is row, column and index of the slice.

        Raises:
            InputError: If the volume has no such voxel, or no slice has it.
        """
        if self.pixel is None:
            return self
        place = None
        if all(0 <= at < length for at, length in zip(self.pixel, grid.shape, strict=True)):
            place = grid.locate(self.pixel)
        if place is None:
            raise wrong_input(
                at="--pixel",
                found=" ".join(map(str, self.pixel)),
                expected=f"a voxel in a slice of {safe_name(case)}, which has {_by(grid.shape)} "
                "voxels, counted from 0",
                do="give row, column and slice inside",
            )
        index, row, column = place
        return replace(self, pixel=(row, column, index))


def find_methods(names: Sequence[str], layer: str | None) -> list[AskedMethod]:
    """The methods asked for, in order and each once.

    Args:
        names: Of ``METHODS``, or ``all`` of them: what ``all`` adds may be refused by a network.
        layer: What those that look at a layer look at; None for their rule.

    Raises:
        InputError: If a name is unknown, or there is a layer and no method that takes one.
    """
    wanted = [one for name in names for one in (METHODS if name == ALL else (name,))]
    found = []
    for name in dict.fromkeys(wanted):
        try:
            kind = find_method(name)
        except ValueError as error:
            msg = f"--method: {error}, or {ALL}; choose one of them"
            raise InputError(msg) from error
        looks_at_layer = layer is not None and "layer" in {field.name for field in fields(kind)}
        settings = {"layer": layer} if looks_at_layer else {}
        found.append(AskedMethod(kind(**settings), needed=name in names or looks_at_layer))
    if layer is not None and not any(hasattr(asked.method, "layer") for asked in found):
        msg = (
            f"--layer: found {layer} for {', '.join(asked.method.name for asked in found)}, "
            "expected it for grad_cam or guided_grad_cam; leave it out"
        )
        raise InputError(msg)
    return found


def write_maps(
    restored: RestoredCheckpoint,
    cases: Sequence[str],
    methods: Sequence[AskedMethod],
    asked: Explanation,
    folder: Path,
    *,
    seed: int,
    batch_size: int,
) -> int:
    """Write a map for each case and method, and what it is beside it.

    Args:
        restored: The network and its data.
        cases: Names of cases.
        methods: From :func:`find_methods`.
        asked: What is explained.
        folder: Where the files go; made if it is not there.
        seed: The seed of random numbers.
        batch_size: Slices that go through the network at once.

    Returns:
        Exit status 0.

    Raises:
        InputError: If a case, the pixel or its class is not as expected, if a method that is needed
            cannot work with the network, or if a file cannot be written.
    """
    chosen = [_find_case(restored.data, name) for name in dict.fromkeys(cases)]
    grids = [restored.data.store.records[case.name].grid for case in chosen]
    placed = [asked.on(grid, case.name) for grid, case in zip(grids, chosen, strict=True)]
    for method, _ in methods:
        _check_layer(restored.module, getattr(method, "layer", ""))
    if asked.pixel is None:
        _check_explained(restored.module, asked.explained)
    words = asked.words(restored.module.class_names)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Found out before anything is computed.
        TemporaryFile(dir=folder).close()
    made_from: dict[str, Any] = {
        "run": restored.run_id,
        "checkpoint": str(restored.path.absolute()),
        "checkpoint_sha256": weights_sha256(restored.module),
        "revision": git_revision(),
        "task": restored.data.task.folder.name,
        "explained": words,
        "objective": asdict(asked),
        "seed": seed,
        "batch_size": batch_size,
    }
    marks = stored_marks(
        [method for method, _ in methods],
        run_id=restored.run_id,
        task=made_from["task"],
        explained=words,
        checkpoint_sha256=made_from["checkpoint_sha256"],
    )
    written = 0
    console = Console(soft_wrap=True, markup=False, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for case, grid, on_slices in zip(chosen, grids, placed, strict=True):
            split = next(name for name in SPLITS if case.name in restored.data.split_cases(name))
            console.print(f"{safe_name(case.name)} ({split}): {words}, {_by(grid.shape)} voxels")
            for method, needed in methods:
                started = perf_counter()
                try:
                    maps = _maps(restored, case.name, method, on_slices, seed, batch_size, progress)
                except ValueError as error:
                    if needed:
                        raise _refused(method, error) from error
                    console.print(f"  {method.name}: left out: {_reason(method, error)}")
                    continue
                facts = {
                    **made_from,
                    **{"case": case.name, "split": split, "method": method.name},
                    "settings": asdict(method),
                    "signed": method.signed,
                    "unit": method.unit.replace("{}", words),
                    "trust": marks[method.name],
                    # Along the fourth axis of the map, where there are several.
                    "channels": restored.data.channel_names,
                }
                volume = grid.volume(maps)
                facts["largest"] = largest = float(np.abs(volume).max())
                facts["share_in_padding"] = _share_in_padding(maps, grid)
                path = folder / f"{safe_name(case.name)}_{method.name}.nii.gz"
                with writing_to(folder):
                    _write(path, volume, case, facts)
                written += 1
                console.print(
                    f"  {method.name}: {path}, largest |map| {largest:.3g} {facts['unit']}, "
                    + (f"{facts['trust']}, " if facts["trust"] else "")
                    + f"{perf_counter() - started:.1f} s"
                )
    if not written:
        msg = f"--method {ALL}: found none that works with this network; choose another network"
        raise InputError(msg)
    return 0


def default_folder(restored: RestoredCheckpoint) -> Path:
    """The folder of a checkpoint's maps, beside the store.

    Args:
        restored: The checkpoint. The id of its run comes from a file, and is not trusted to be the
            name of a folder.
    """
    names = [] if restored.run_id is None else [restored.run_id[:8]]
    if not names or restored.path.stem != _LAST:
        names.append(restored.path.stem)
    return runs_dir() / "explained" / safe_name("_".join(names))


def _maps(
    restored: RestoredCheckpoint,
    case: str,
    method: Attribution,
    asked: Explanation,
    seed: int,
    batch_size: int,
    progress: Progress,
) -> NDArray[np.float32]:
    """Maps of all slices of a case, shape ``(Z, C, H, W)``; 0 where a slice has no say."""
    module, slices = restored.module, restored.data.case_slices(case)
    frames = range(len(slices)) if asked.pixel is None else [asked.pixel[2]]
    size = 1 if asked.pixel is not None else min(batch_size, max(len(slices), _SMALLEST_BATCH))
    pieces = list(fixed_size((slices[frame] for frame in frames), size))
    _, _, height, width = pieces[0].image.shape
    passes = method.passes(height, width).forward + (asked.explained in _WITH_A_PASS)
    task = progress.add_task(f"{safe_name(case)} {method.name}", total=passes * len(pieces))

    def forward(image: Tensor) -> Tensor:
        logits: Tensor = module(image)
        progress.advance(task)
        return logits

    found = []
    device = next(module.parameters()).device
    try:
        for piece in pieces:
            batch = attack_batch(forward, piece, device, objectives_of(module))
            objective = asked.objective(batch, module.class_names)
            maps = explain(method, module, batch, objective, seed)
            found.append(maps[: len(piece.cases)].cpu().numpy())
    finally:
        progress.remove_task(task)
    whole = np.zeros((len(slices), *found[0].shape[1:]), dtype=np.float32)
    whole[list(frames)] = np.concatenate(found)
    return whole


def _write(path: Path, volume: NDArray[np.float32], case: Case, facts: dict[str, Any]) -> None:
    """A map and its facts; an interruption leaves a map without facts, never with another's."""
    described = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    described.unlink(missing_ok=True)
    words = f"{facts['method']}: {facts['explained']}"
    write_volume(path, volume, case.image, description=words)
    write_whole(described, (json.dumps(facts, indent=1) + "\n").encode())


def _find_case(data: DecathlonDataModule, name: str) -> Case:
    records = data.store.records
    by_name = {case.name: case for case in data.task.cases if case.name in records}
    if name not in by_name:
        raise unknown_name(option="--case", kind="case", name=name, known=by_name)
    return by_name[name]


def _check_layer(network: nn.Module, layer: str) -> None:
    names = [name for name, _ in network.named_modules() if name]
    if layer and layer not in names:
        raise unknown_name(option="--layer", kind="module", name=layer, known=names)


def _check_explained(module: SegmentationModule, name: str) -> None:
    try:
        check_explained(name, objectives_of(module))
    except ValueError as error:
        msg = f"--{error}; choose one of them, or a network that has it"
        raise InputError(msg) from error


def _share_in_padding(maps: NDArray[np.float32], grid: SliceGrid) -> float:
    """How much of the sum of |map| lies in padding, which the volume has not."""
    height, width = grid.slice_shapes.T[:, :, np.newaxis, np.newaxis, np.newaxis]
    _, _, rows, columns = np.ogrid[:1, :1, : maps.shape[2], : maps.shape[3]]
    there = (rows < height) & (columns < width)
    sizes = np.abs(maps).astype(np.float64)
    whole, kept = float(sizes.sum()), float((sizes * there).sum())
    return max(0.0, 1 - kept / whole) if whole else 0.0


def _refused(method: Attribution, error: ValueError) -> InputError:
    layer = getattr(method, "layer", "")
    advice = "another layer with --layer" if layer else "another method or network"
    return InputError(f"--method {method.name}: {_reason(method, error)}; choose {advice}")


def _reason(method: Attribution, error: ValueError) -> str:
    return " ".join(str(error).split()).removeprefix(f"{method.name}: ")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
