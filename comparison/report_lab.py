"""The sections of the report that show the attack lab; what comes from runs is escaped."""

import html
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from comparison.attack_losses import attack_loss_figures, attack_loss_table
from comparison.attack_scores import attack_score_tables
from comparison.figures import attack_names, point_words
from comparison.report_cards import FIGURE, CardRow, ReportCards, report_card_picture, report_cards
from comparison.report_html import breakable, notice
from comparison.report_pictures import image_html
from comparison.report_scores import scores_section
from comparison.selection import Selection
from comparison.transfers import Transfers, transfer_figures, transfers
from comparison.worst_cases import WorstCases, worst_case_figures, worst_cases
from pictures.report_card import LOOKS, Mark

TABLES = (
    "report_card.csv",
    "worst_case.csv",
    "attack_loss.csv",
    "transfer.csv",
    "attack_scores.csv",
    "point_scores.csv",
)

_TEST = "python main.py test --ckpt_path ..."
_LOOKS = {"pass": "pass", "fail": "fail", "not applicable": "none"}


@dataclass
class Lab:
    """What the attack lab adds to a report.

    Attributes:
        sections: HTML, with what is missing at its end.
        tables: Tables by the names of their files.
        figures: PNGs by the names of their files, without ending.
    """

    sections: str = ""
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, bytes] = field(default_factory=dict)


def attack_lab(selection: Selection, curves: Mapping[str, pd.DataFrame]) -> Lab:
    """Scores of each attack; cards, worst cases, attack losses, transfer where runs hold them.

    Args:
        selection: The runs.
        curves: Curves of each loss.

    Raises:
        InputError: If a stored file cannot be read.
    """
    lab, missing = Lab(), []
    card_file, worst_file, loss_file, transfer_file, score_file, point_file = TABLES
    settings = selection.attack_settings()
    unknown = "" if settings else " with the attacks' settings stored, which these runs have not"

    scores = attack_score_tables(selection)
    lab.tables |= {score_file: scores.attacks, point_file: scores.points}
    lab.sections += scores_section(scores, attack_names(curves), (score_file, point_file))
    if not scores.calibrated:
        missing.append(("Calibration (ECE): no run has stored it", _TEST))

    cards = report_cards(selection)
    if cards is None:
        missing.append(("Report card: no run has one", f"{_TEST} --robustness.card_cases 8"))
    else:
        _add(lab, card_file, cards.table, figures := report_card_picture(cards))
        lab.sections += _card_section(cards, figures)

    worst = worst_cases(selection)
    if worst is None:
        why = "Worst case: needs two attacks or more of one axis and equal budget"
        missing.append((why + unknown, _TEST))
    else:
        _add(lab, worst_file, worst.table, figures := worst_case_figures(selection, worst))
        lab.sections += _worst_section(worst, figures)

    by_objective = attack_loss_table(settings, curves)
    if by_objective.empty:
        why = "Training loss by attack loss: needs attacks that differ in their objective alone"
        missing.append((why + unknown, _TEST))
    else:
        _add(lab, loss_file, by_objective, figures := attack_loss_figures(by_objective))
        lab.sections += _loss_section(figures)

    transferred = transfers(selection)
    experiment = shlex.quote(selection.experiment)
    if len(selection.runs) == 1:
        missing.append(("Transfer: needs two runs or more", "python main.py fit ..."))
    elif transferred is None:
        command = f"python main.py attack --experiment {experiment}"
        missing.append(("Transfer: no attack made on one run was counted on another", command))
    else:
        _add(lab, transfer_file, transferred.table, figures := transfer_figures(transferred))
        lab.sections += _transfer_section(transferred, figures, experiment)
    lab.sections += _missing_section(missing)
    return lab


def _add(lab: Lab, file: str, table: pd.DataFrame, figures: Mapping[str, bytes]) -> None:
    lab.tables[file] = table
    lab.figures.update(figures)


def _card_section(cards: ReportCards, figures: Mapping[str, bytes]) -> str:
    losses = "".join(
        f'<th class="loss" colspan="{len(names)}">{breakable(loss)}</th>'
        for loss, names in cards.runs.items()
    )
    runs = "".join(
        f"<th>{html.escape(name)}</th>" for names in cards.runs.values() for name in names
    )
    rows = "".join(_card_row(row) for row in cards.rows)
    without = (
        notice(f"No report card of {'; '.join(cards.without)}: {_TEST} --robustness.card_cases 8")
        if cards.without
        else ""
    )
    return (
        "<h2>Report card</h2><p>Whether the attacks can be believed: a curve that stays high says "
        "little if its attack was weak or its gradient masked. The number of each check must not "
        "exceed its tolerance; it is a difference of mean Dice unless its question says otherwise."
        f'</p>{without}<div class="scroll"><table class="card"><thead>'
        f'<tr><th rowspan="2">check</th>{losses}</tr><tr>{runs}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f"<details><summary>The report card as a picture</summary>"
        f"<p>{image_html(figures[FIGURE], 'report card')}</p></details>"
    )


def _card_row(row: CardRow) -> str:
    question = f"{row.question}; {row.tolerance}" if row.tolerance else row.question
    cells = "".join(_mark(mark, note) for mark, note in zip(row.marks, row.notes, strict=True))
    head = f"{html.escape(row.check)}<small>{html.escape(question)}</small>"
    return f'<tr><th scope="row">{head}</th>{cells}</tr>'


def _mark(mark: Mark | None, note: str) -> str:
    if mark is None:
        return "<td>none</td>"
    words = "".join(f"<small>{html.escape(text)}</small>" for text in (mark.number, note) if text)
    return f'<td class="{_LOOKS[mark.status]}">{LOOKS[mark.status].words}{words}</td>'


def _worst_section(worst: WorstCases, figures: Mapping[str, bytes]) -> str:
    return (
        "<h2>Worst case over attacks</h2><p>An attacker who may choose: of each volume, class and "
        "seed the lowest Dice that any of several attacks of equal budget leaves, in any of its "
        "repeats. The tables show the largest budget that all of them have, each attack alone (the "
        "lowest of its repeats, where curves show their mean), and of how many volumes it "
        "was the worst (of several that are equally bad, the first). All points are in "
        f"{TABLES[1]}.</p>"
        + "".join(
            _of_ensemble(worst, name, png)
            for name, png in zip(worst.members, figures.values(), strict=True)
        )
    )


def _of_ensemble(worst: WorstCases, name: str, png: bytes) -> str:
    found = worst.table[worst.table["ensemble"] == name]
    last = found[found["point"] == found["point"].max()]
    at = point_words(str(last["axis"].iloc[0]), float(last["point"].iloc[0]))
    heads = "".join(f"<th>{breakable(attack)}</th>" for attack in worst.members[name])
    rows = "".join(
        _worst_row(str(loss), of_loss, worst.members[name])
        for loss, of_loss in last.groupby("loss", sort=False)
    )
    picture = image_html(png, html.escape(f"worst case over {name}", quote=True))
    return (
        f'<h3>{html.escape(f"{name}, at {at}")}</h3><div class="scroll"><table>'
        f"<thead><tr><th>loss</th><th>worst case</th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div><p>{picture}</p>"
    )


def _worst_row(loss: str, found: pd.DataFrame, attacks: Sequence[str]) -> str:
    numbers = found.set_index("attack")[["attack_dice", "worst_share"]].to_dict("index")
    first = found.iloc[0]
    over = "".join(
        f"<small>{words}{first[low]:.3f} to {first[high]:.3f}</small>"
        for words, low, high in (("", "low", "high"), ("seeds ", "seed_low", "seed_high"))
        if pd.notna(first[low])
    )
    alone = "".join(
        f"<td>{numbers[attack]['attack_dice']:.3f}"
        f"<small>worst in {100 * numbers[attack]['worst_share']:.0f} %</small></td>"
        for attack in attacks
    )
    worst = f"<td><b>{first['dice']:.3f}</b>{over}</td>"
    return f"<tr><td>{html.escape(loss)}</td>{worst}{alone}</tr>"


def _loss_section(figures: Mapping[str, bytes]) -> str:
    return (
        "<h2>Training loss by attack loss</h2><p>The same attack, raising one objective after "
        "another: the row says what a network was trained with, the column what its attacker "
        "raises. Framed is the lowest number of each row. Shown is the largest point; all are in "
        f"{TABLES[2]}.</p>" + _pictures(figures, "attack_loss_")
    )


def _transfer_section(found: Transfers, figures: Mapping[str, bytes], experiment: str) -> str:
    notes = "".join(
        notice(f"{note} python main.py attack --experiment {experiment} attacks all pairs.")
        for note in found.notes
    )
    return (
        "<h2>Transfer</h2><p>Attacks made on the network in the row and counted on the one in the "
        f"column: mean Dice over seeds and {found.cases} volumes, at each attack's largest point "
        f"(all are in {TABLES[3]}). Framed is the white box; a transfer that does more harm says "
        "that the white box was not attacked well. A column's last cell is its Dice without an "
        f"attack.</p>{notes}" + _pictures(figures, "transfer_")
    )


def _pictures(figures: Mapping[str, bytes], prefix: str) -> str:
    """The pictures under the names of their attacks; the first one is open."""
    return "".join(
        f"<details{' open' * (not index)}>"
        f"<summary>{html.escape(name.removeprefix(prefix))}</summary>"
        f"<p>{image_html(png, html.escape(name, quote=True))}</p></details>"
        for index, (name, png) in enumerate(figures.items())
    )


def _missing_section(missing: Sequence[tuple[str, str]]) -> str:
    if not missing:
        return ""
    lines = "".join(
        f"<li>{html.escape(why)}. <code>{html.escape(command)}</code></li>"
        for why, command in missing
    )
    return f"<h2>Not in this report</h2><ul>{lines}</ul>"
