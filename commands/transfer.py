"""Attacks made on one network of an experiment, counted on all of them."""

import tempfile
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import Progress

from callbacks.evaluating import mendable, objectives_of, weights_sha256
from commands.attack_classes import attack_classes
from commands.cards import judge_again, like_the_cards
from commands.config_files import check_config_files
from commands.messages import parser_message
from commands.stored_networks import LoadedNetwork, find_device, load_network
from comparison.selection import select_runs
from errors import InputError
from robustness.attack import Attack, attacks_fingerprint, settings_text
from robustness.batches import Batch, only_cases
from robustness.counter import Attacker
from robustness.counts import counts_frame, write_counts
from robustness.engine import evaluate_many
from robustness.network_state import untouched
from robustness.plan import Plan, make_plan
from robustness.repeated_attack import RepeatedAttack
from tracking.reading import fetch_card_counts, transfer_folder
from tracking.store import project_dir
from tracking.writing import store_file

DEFAULT_CONFIG = project_dir() / "conf" / "robustness" / "transfer.yaml"
_BATCH = 32


def transfer(
    experiment: str,
    split: str,
    *,
    config: Path | None,
    cases: int,
    seed: int,
    root: Path | None,
    device: str,
) -> int:
    """Make attacks on each network and count them on all.

    Args:
        experiment: Name of the experiment.
        split: ``val`` or ``test``.
        config: YAML with the attacks; None is ``conf/robustness/transfer.yaml``.
        cases: Of how many cases, the first by name.
        seed: Seed of the attacks.
        root: Folder of the tasks' folders; None is that of the training.
        device: ``auto`` or a name that torch knows.

    Returns:
        Exit status 0.

    Raises:
        InputError: If the experiment, its checkpoints, the attacks or the data are not as expected.
    """
    console = Console(soft_wrap=True, markup=False, highlight=False)
    attacks = read_attacks(config or DEFAULT_CONFIG)
    selection = select_runs(experiment, split)
    if len(selection.runs) < 2:  # noqa: PLR2004 - from one network to another
        msg = f"experiment {experiment}: found 1 run, expected two or more to transfer between"
        raise InputError(msg)
    cards = [fetch_card_counts(found.run, split) for found in selection.runs]
    attacks, least = like_the_cards(attacks, [card for card in cards if card is not None])
    cases = max(cases, least)
    chosen_device = find_device(device)
    networks = [load_network(found.run, chosen_device, root) for found in selection.runs]
    with mendable("--config"):
        plan = make_plan(attacks)
    kept = sorted(networks[0].data.split_cases(split))[:cases]
    console.print(
        f"{len(attacks)} attacks on {len(kept)} cases, made on each of {len(networks)} networks "
        f"and counted on all: {_passes(plan, len(networks))} of each slice"
    )
    slices = sum(len(batch["case"]) for batch in _batches(networks[0], split, kept))
    with Progress(console=console) as progress, tempfile.TemporaryDirectory() as scratch:
        for source in networks:
            task = progress.add_task(f"made on {source.run.name}", total=slices)
            files = _count(
                source,
                networks,
                plan,
                split,
                _batches(source, split, kept),
                seed=seed,
                scratch=Path(scratch),
                on_slices=partial(progress.advance, task),
            )
            for victim, file in zip(networks, files, strict=True):
                store_file(victim.run, file, transfer_folder(split))
    for network in networks:
        line = judge_again(network.run, split)
        if line is not None:
            console.print(f"{network.run.name}: {line}")
    console.print(f"Then: python main.py compare --experiment {experiment} --split {split}")
    return 0


def _passes(plan: Plan, networks: int) -> str:
    """What a transfer takes: attacks on each network, each disturbance through all of them."""
    found, counted = plan.cost, len(plan.rows)
    forward = networks * (found.forward - counted + networks * counted)
    return f"{forward:,} forward and {networks * found.backward:,} backward passes"


def read_attacks(config: Path) -> list[Attack]:
    """The attacks of a YAML file, as ``robustness.attacks``.

    Raises:
        InputError: If the file cannot be read or holds anything else.
    """
    check_config_files(["--config", str(config)])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--robustness.attacks", type=list[Attack], required=True)
    try:
        found = parser.parse_path(config)
        attacks: list[Attack] = parser.instantiate_classes(found).robustness.attacks
    except (ArgumentError, ValueError, TypeError, OSError) as error:
        names = [f"{kind.__module__}.{kind.__name__}" for kind in attack_classes()]
        message = parser_message(str(error), classes=names)
        msg = f"--config {config}: {message}"
        raise InputError(msg) from error
    for attack in attacks:
        if isinstance(attack, RepeatedAttack) and attack.half_width:
            msg = (
                f"--config {config}: attack {attack.name} has half_width {attack.half_width}, "
                "expected none in a transfer, which makes all repeats; leave it out and set repeats"
            )
            raise InputError(msg)
    return attacks


def _count(
    source: LoadedNetwork,
    victims: Sequence[LoadedNetwork],
    plan: Plan,
    split: str,
    batches: Iterable[Batch],
    *,
    seed: int,
    scratch: Path,
    on_slices: Callable[[int], None],
) -> list[Path]:
    """A file of counts on each victim, named by the source."""
    with untouched(source.module), mendable("--config"):
        measured = evaluate_many(
            [victim.module for victim in victims],
            batches,
            plan,
            Attacker(source.module, objectives_of(source.module)),
            device=next(source.module.parameters()).device,
            seed=seed,
            batch_size=_BATCH,
            on_slices=on_slices,
        )
    made_on = {"made_on": source.run.run_id, "made_on_sha256": weights_sha256(source.module)}
    files = []
    for victim, found in zip(victims, measured, strict=True):
        metadata = {
            "checkpoint_sha256": weights_sha256(victim.module),
            "attacks": attacks_fingerprint(plan.attacks, seed),
            "attack_settings": settings_text(plan.attacks),
            "split_name": split,
            **victim.data.fingerprints(split),
            **made_on,
        }
        frame = counts_frame([found.counts.partial()], plan.rows, list(victim.module.class_names))
        folder = scratch / victim.run.run_id
        folder.mkdir(exist_ok=True)
        files.append(folder / f"{source.run.run_id}.parquet")
        write_counts(files[-1], frame, metadata)
    return files


def _batches(network: LoadedNetwork, split: str, cases: Sequence[str]) -> Iterator[Batch]:
    data = network.data
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    return only_cases(loader, cases)
