"""What the network looks at, measured and drawn at validation end."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from callbacks.progress import progress, say
from callbacks.record_saliency import Looked, record_saliency
from callbacks.run_state import run_logger
from errors import InputError
from robustness.attack import AttackBatch
from robustness.attribution import explain
from robustness.attribution_method import Attribution
from robustness.batches import Batch
from robustness.explained import check_explained
from robustness.network_state import untouched
from robustness.objectives import Objective
from robustness.saliency import Forward
from robustness.slice_maps import MethodMaps, explain_slices, slice_maps, whole_batch
from robustness.snapshots import LargestSlices
from robustness.spread_table import MapMethod, measure_spread, spread_frame
from robustness.temperature import matched_temperature, output_objectives, truth_histogram
from robustness.trust_table import trust_frame


class SaliencyCallback(AfterEvaluation):
    """Measures what the network looks at: how widely maps spread, maps of some cases, and trust.

    Args:
        methods: Attribution methods that draw maps; each at most once. Files under conf/saliency
            set them, docs/saliency.md lists all there are.
        explained: What the maps explain: all (the sum of probabilities over all pixels), predicted,
            truth, frozen (the clean prediction), margin, or an objective such as bce.
        spread: Names of the methods whose maps' spread is measured, on every slice of the split and
            of the sums of probabilities, of logits and of probabilities at a matched temperature.
        cases: Of how many cases maps are drawn and checked, the first by name; 0 draws none.
        trust: Whether methods are checked on these cases: by random weights, pixel flipping and
            noise. Takes about 30 times what a map takes, for a U-Net of 20 layers.
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
        trust: bool = True,
        splits: Splits = ("val", "test"),
        every_n_epochs: int = 0,
        seed: int = 0,
        batch_size: int = 32,
    ) -> None:
        super().__init__(splits, every_n_epochs)
        check_numbers(
            "saliency",
            ("cases", cases, 0),
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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be explained, before anything is trained.

        Raises:
            InputError: If there is no such objective.
        """
        with mendable("--saliency.explained"):
            check_explained(self.explained, objectives_of(pl_module))

    def measure(self, trainer: Trainer, module: LightningModule, split: str, *, last: bool) -> None:
        """Look at the network; see :class:`AfterEvaluation`."""
        if not self.methods:
            return
        chooser = LargestSlices(self.cases)
        metadata: dict[str, str] = {}
        with untouched(module), mendable("--saliency"):
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
            samples = chooser.samples()
            found: list[MethodMaps] = []
            if samples:
                batch = whole_batch(forward, samples, module.device, objectives_of(module))
                found = self._explain(trainer, module, batch)
            logger = run_logger(trainer)
            if not trainer.is_global_zero:
                return
            if logger is None:
                say(trainer, "No run to write to: what the network looks at is not kept.")
                return
            maps = slice_maps(batch, samples, found, self.explained) if samples else []
        metadata |= {
            "checkpoint_sha256": weights_sha256(module),
            "split_name": split,
            "methods": json.dumps([self.methods[name].settings() for name in self.spread]),
            **data_fingerprints(trainer, split),
        }
        verdicts = [one.verdict for one in found if one.verdict is not None]
        refused = {one.method: one.refused for one in found if one.refused}
        trust = trust_frame(verdicts, refused)
        epoch = self.epoch_of(trainer, module)
        record_saliency(logger, Looked(split, epoch, spread, metadata, maps, trust))

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
        self, trainer: Trainer, module: LightningModule, batch: AttackBatch
    ) -> list[MethodMaps]:
        """Maps of all methods; each process explains all slices by some of the methods."""
        names = list(self.methods)
        mine = names[trainer.global_rank :: trainer.world_size]
        checked = ", each checked" if self.trust else ""
        say(
            trainer,
            f"Maps: {_count(len(names), 'method')} on {_count(len(batch.image), 'slice')}{checked}",
        )
        found = []
        with progress(trainer, "Maps", len(mine)) as advance:
            advance_heeding = heeding_sigterm(trainer, advance)
            for name in mine:
                one = explain_slices(
                    module,
                    batch,
                    self.methods[name],
                    what=self.explained,
                    trust=self.trust,
                    seed=self.seed,
                )
                found.append(one)
                advance_heeding(1)
        by_name = {one.method: one for part in gather(found) for one in part}
        for one in by_name.values():
            if one.refused:
                say(trainer, f"Note: no maps by {one.method}: {one.refused}.")
        return [by_name[name] for name in names]


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
