"""What the network looks at, measured and drawn at validation end."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.after_evaluation import AfterEvaluation, Splits, check_numbers
from callbacks.evaluating import (
    data_fingerprints,
    gather,
    heeding_sigterm,
    loader_batches,
    mendable,
    network_forward,
    objectives_of,
    split_batches,
    split_slices,
    weights_sha256,
)
from callbacks.progress import clock, progress, say
from callbacks.record_saliency import Looked, record_cases, record_saliency
from callbacks.run_state import run_logger
from errors import InputError
from robustness.attack import AttackBatch
from robustness.attribution import explain
from robustness.attribution_method import Attribution
from robustness.batch_size import seconds_per_slice
from robustness.batches import Batch
from robustness.explained import check_explained, explained_words
from robustness.network_state import untouched
from robustness.objectives import Objective
from robustness.pictured import SliceMaps
from robustness.saliency import Forward
from robustness.slice_maps import MethodMaps, check_method, explain_slices, slice_maps, whole_batch
from robustness.snapshots import LargestSlices, SliceSample
from robustness.spread_table import MapMethod, measure_spread, spread_frame
from robustness.temperature import matched_temperature, output_objectives, truth_histogram
from robustness.trust import FEW, maps_per_check
from robustness.trust_table import curves_frame, trust_frame


class SaliencyCallback(AfterEvaluation):
    """Measures what the network looks at: how widely maps spread, maps of some cases, and trust.

    Args:
        methods: Attribution methods that draw maps; each at most once. Files under conf/saliency
            set them, docs/saliency.md lists all there are.
        explained: What the maps explain: all (the sum of probabilities over all pixels), predicted,
            truth, frozen (the clean prediction), margin, or an objective such as bce.
        spread: Names of the methods whose maps' spread is measured, on every slice of the split and
            of the sums of probabilities, of logits and of probabilities at a matched temperature.
        cases: Of how many cases maps are drawn, the first by name; 0 draws none.
        trust: On how many cases methods are checked, the first by name: by random weights, pixel
            flipping and noise. It takes 13 times what their maps take. 0 checks none; fewer than 8
            tell little.
        splits: Where the network is looked at: val (fit and validate), test, both or none.
        every_n_epochs: How often during fit; 0 is after the last epoch only.
        seed: Seed of random numbers, apart from that of the training.
        batch_size: Slices that are explained together when the spread is measured; 16 or more.
    """

    def __init__(
        self,
        methods: list[Attribution],
        explained: str = "all",
        spread: Sequence[str] = ("gradient",),
        cases: int = 4,
        trust: int = FEW,
        splits: Splits = ("val", "test"),
        every_n_epochs: int = 0,
        seed: int = 0,
        batch_size: int = 32,
    ) -> None:
        super().__init__(splits, every_n_epochs)
        check_numbers(
            "saliency",
            ("cases", cases, 0),
            ("trust", trust, 0),
            ("every_n_epochs", every_n_epochs, 0),
            ("seed", seed, 0),
            ("batch_size", batch_size, 16),
        )
        self.methods = {method.name: method for method in methods}
        if len(self.methods) < len(methods):
            names = [method.name for method in methods]
            twice = sorted({name for name in names if names.count(name) > 1})
            msg = f"--saliency.methods: found {', '.join(twice)} twice, expected each once"
            raise InputError(msg)
        unknown = [name for name in spread if name not in self.methods]
        if unknown:
            msg = (
                f"--saliency.spread: {unknown[0]} is none of the methods, expected some of "
                f"{', '.join(self.methods) or 'none'}; add it to --saliency.methods"
            )
            raise InputError(msg)
        self.explained = explained
        self.spread = tuple(spread)
        self.cases = cases
        self.trust = trust
        self.seed = seed
        self.batch_size = batch_size
        self._last: Looked | None = None
        self._cases_logged = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be explained, before anything is trained.

        Raises:
            InputError: If there is no such objective, or no such layer.
        """
        with mendable("--saliency.explained", "choose one of these"):
            check_explained(self.explained, objectives_of(pl_module))
        layers = [name for name, _ in pl_module.named_modules() if name]
        for method in self.methods.values():
            layer = getattr(method, "layer", "")
            if layer and layer not in layers:
                near = get_close_matches(layer, layers, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                msg = (
                    f"--saliency.methods: layer of {method.name}: found {layer}{hint}, expected "
                    f"the name of a module, such as {layers[-1]}; or leave it out"
                )
                raise InputError(msg)

    def became_last(self, trainer: Trainer) -> None:
        """Log what is logged once a run."""
        if not self._cases_logged and self._last is not None:
            record_cases(run_logger(trainer), self._last)

    def measure(self, trainer: Trainer, module: LightningModule, split: str, *, last: bool) -> None:
        """Look at the network; see :class:`AfterEvaluation`."""
        if not self.methods:
            return
        chooser = LargestSlices(max(self.cases, self.trust))
        metadata: dict[str, str] = {}
        with untouched(module), mendable("--saliency", "leave it out, or change the network"):
            forward = network_forward(trainer, module)
            spread = spread_frame([])
            if self.spread:
                temperature = _temperature(trainer, module, forward, split, self.batch_size)
                metadata["temperature"] = "none" if temperature is None else f"{temperature:.6g}"
                spread = self._measure_spread(
                    trainer, module, forward, split, chooser, output_objectives(temperature)
                )
            else:
                for each in split_batches(trainer, split):
                    chooser.look(each)
            for samples in gather(chooser.samples()):
                chooser.merge(samples)
            found = self._explain(trainer, module, forward, chooser.samples())
            logger = run_logger(trainer)
            if not trainer.is_global_zero:
                return
            if logger is None:
                say(trainer, "No run to write to: what the network looks at is not kept.")
                return
            weights = weights_sha256(module)
            pictured = chooser.samples()[: self.cases]
            maps: list[SliceMaps] = []
            if pictured:
                batch = whole_batch(forward, pictured, module.device)
                maps = slice_maps(batch, pictured, found, self.explained, weights)
        metadata |= {
            "checkpoint_sha256": weights,
            "split_name": split,
            "methods": json.dumps([self.methods[name].settings() for name in self.spread]),
            **data_fingerprints(trainer, split),
        }
        checked = [one.checked for one in found if one.checked is not None]
        trust = trust_frame(
            [one.verdict for one in checked],
            {one.method: one.refused for one in found if one.refused},
            explained=explained_words(self.explained),
            checkpoint_sha256=weights,
        )
        curves = curves_frame([one.evidence for one in checked])
        epoch = self.epoch_of(trainer, module)
        self._last = Looked(split, epoch, spread, metadata, maps, trust, curves)
        self._cases_logged = last
        record_saliency(logger, self._last)
        if last:
            record_cases(logger, self._last)

    def _measure_spread(
        self,
        trainer: Trainer,
        module: LightningModule,
        forward: Forward,
        split: str,
        chooser: LargestSlices,
        outputs: Mapping[str, Objective],
    ) -> pd.DataFrame:
        """The table of all processes; the chooser gets to see the slices as they pass."""
        methods = {name: self._map_method(module, name) for name in self.spread}
        slices = split_slices(trainer, split)
        everywhere = sum(gather(slices))
        say(trainer, f"Spread on {split}: {', '.join(self.spread)} of {everywhere:,} slices")
        with progress(trainer, "Spread", slices) as advance:
            part = measure_spread(
                forward,
                _watched(split_batches(trainer, split), chooser, heeding_sigterm(trainer, advance)),
                methods,
                outputs,
                device=module.device,
                batch_size=self.batch_size,
            )
        return spread_frame(gather(part))

    def _map_method(self, module: LightningModule, name: str) -> MapMethod:
        method = self.methods[name]

        def maps(batch: AttackBatch, objective: Objective) -> Tensor:
            return explain(method, module, batch, objective, self.seed)

        return maps

    def _explain(
        self,
        trainer: Trainer,
        module: LightningModule,
        forward: Forward,
        samples: Sequence[SliceSample],
    ) -> list[MethodMaps]:
        """Maps and verdicts of all methods; processes share the methods, not the slices."""
        if not samples:
            return []
        names = list(self.methods)
        mine = names[trainer.global_rank :: trainer.world_size]
        height, width = samples[0].image.shape[1:]
        draws = maps_per_check(module, samples[0].image[None].to(module.device))
        pictured, checked = min(self.cases, len(samples)), min(self.trust, len(samples))
        images = torch.stack([sample.image for sample in samples]).to(module.device)
        self._announce(trainer, forward, images, pictured + draws * checked)
        times = bool(pictured) + draws * bool(checked)
        total = times * sum(self.methods[name].passes(height, width).forward for name in mine)
        found = []
        with progress(trainer, "Maps", total) as advance:
            watched = _heeding(forward, heeding_sigterm(trainer, advance))
            parts = [
                whole_batch(watched, samples[:count], module.device, objectives_of(module))
                for count in (pictured, checked)
                if count
            ]
            for name in mine:
                one = self._of_method(module, parts, name, pictured=pictured, checked=checked)
                found.append(one)
        by_name = {one.method: one for part in gather(found) for one in part}
        for one in by_name.values():
            if one.refused:
                what = "maps" if one.maps is None else "verdict"
                say(trainer, f"Note: no {what} by {one.method}: {one.refused}.")
        return [by_name[name] for name in names]

    def _of_method(
        self,
        module: LightningModule,
        parts: Sequence[AttackBatch],
        name: str,
        *,
        pictured: int,
        checked: int,
    ) -> MethodMaps:
        method = self.methods[name]
        one = explain_slices(module, parts[0], method, what=self.explained, seed=self.seed)
        if not checked or one.refused:
            return one if pictured else replace(one, maps=None)
        found = check_method(module, parts[-1], method, what=self.explained, seed=self.seed)
        if isinstance(found, str):
            return replace(one, refused=found)
        return replace(one, checked=found)

    def _announce(self, trainer: Trainer, forward: Forward, images: Tensor, slices: int) -> None:
        """Say what is coming and about how long it takes."""
        height, width = images.shape[2:]
        cost = [method.passes(height, width) for method in self.methods.values()]
        passes = sum(one.forward + 2 * one.backward for one in cost)
        seconds = seconds_per_slice(forward, images, len(images)) * passes * slices
        on = _count(min(self.cases, len(images)), "slice")
        checked = f", checked on {min(self.trust, len(images))}" if self.trust else ""
        methods = _count(len(self.methods), "method")
        say(
            trainer,
            f"Maps: {methods} on {on}{checked}, about {clock(seconds / trainer.world_size)}",
        )


def _temperature(
    trainer: Trainer, module: LightningModule, forward: Forward, split: str, batch_size: int
) -> float | None:
    """That of the validation slices; of those measured where there is no DataModule.

    None where none fits best, as with a network that has learned nothing.
    """
    datamodule: Any = getattr(trainer, "datamodule", None)
    if split == "val" or datamodule is None:
        batches = split_batches(trainer, split)
    else:
        batches = loader_batches(trainer, datamodule.val_dataloader())
    counted = truth_histogram(forward, batches, device=module.device, batch_size=batch_size)
    try:
        return matched_temperature(torch.stack(gather(counted)).sum(dim=0))
    except ValueError as error:
        say(trainer, f"Note: {error}. The spread is not measured at a matched temperature.")
        return None


def _heeding(forward: Forward, after_pass: Callable[[int], None]) -> Forward:
    """A network that moves a bar on with each pass; a long method must heed SIGTERM too."""

    def watched(image: Tensor) -> Tensor:
        logits = forward(image)
        after_pass(1)
        return logits

    return watched


def _watched(
    batches: Iterator[Batch], chooser: LargestSlices, on_slices: Callable[[int], None]
) -> Iterator[Batch]:
    """The batches, shown to the one who chooses slices for pictures as they pass."""
    for batch in batches:
        chooser.look(batch)
        yield batch
        on_slices(len(batch["case"]))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
