from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from errors import InputError
from lightning_module.losses.building import build_term
from lightning_module.losses.cross_entropy import Focal
from lightning_module.losses.expression import TermSpec
from lightning_module.losses.registry import TERMS


class Margin(nn.Module):
    """A term of the user's own: squared distance of the logits to a margin that is learnt."""

    def __init__(self, margin: float = 1.0, mode: str = "both") -> None:
        super().__init__()
        self.margin = nn.Parameter(torch.tensor(float(margin)))
        self.mode = mode

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        return (logits - self.margin * (2 * target - 1)).square().mean((2, 3))


class TakesAnything(Margin):
    """A term with open arguments."""

    def __init__(self, **settings: float) -> None:
        super().__init__(settings["margin"])


class Misdescribed(Margin):
    """Says wrongly what it is for."""

    outputs = "sigmoid"


class Unfinished(nn.Module):
    """No term: it cannot be given pixels that count."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return logits - target


def test_arguments_reach_the_term() -> None:
    term = build_term(TermSpec("focal", 1.0, {"gamma": 3, "alpha": 0.5}))

    assert isinstance(term, Focal)
    assert (term.gamma, term.alpha) == (3.0, 0.5)


def test_a_term_of_ones_own_is_imported() -> None:
    term = build_term(TermSpec(f"{__name__}:Margin", 1.0, {"margin": 2, "mode": "hard"}))

    assert isinstance(term, Margin)
    assert (term.margin.item(), term.mode) == (2.0, "hard")


def test_open_arguments_are_passed_on() -> None:
    term = build_term(TermSpec(f"{__name__}:TakesAnything", 1.0, {"margin": 3}))

    assert isinstance(term, Margin)
    assert term.margin.item() == 3.0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("bec", {}, r"found 'bec', expected one of bce, .*\(nearest: bce"),
        ("DICE", {}, r"found 'DICE', expected one of .* \(nearest: dice"),
        ("zzz", {}, f"found 'zzz', expected one of {', '.join(TERMS)}; "),
        ("focal", {"gama": 3}, r"'gama', expected one of gamma, alpha \(nearest: gamma\)"),
        ("bce", {"gamma": 3}, "found argument 'gamma', expected none; correct it in --model.loss"),
        ("focal", {"gamma": -1}, "gamma: found -1, expected a number of at least 0"),
        ("focal", {"gamma": "x"}, "gamma: found 'x'"),
        ("no.such.package:Term", {}, "'no.such.package' cannot be imported"),
        (f"{__name__}:margin", {}, r"no nn.Module class 'margin' .* \(nearest: Margin\)"),
        ("torch.nn:BCELos", {}, r"expected one of .*, \.\.\. \(nearest: BCELoss,"),
        ("math:pi", {}, "found no nn.Module class 'pi' in 'math', expected none"),
        (
            f"{__name__}:Misdescribed",
            {},
            "found outputs 'sigmoid' .*expected such as",
        ),
        ("dice", {"background": False}, "found the argument background, expected none, because"),
        ("sce", {"alpha": 0, "beta": 0}, "alpha and beta: found 0 twice"),
        ("broken_term:Term", {}, r"'broken_term' cannot be imported \(SyntaxError: "),
        (f"{__name__}:Unfinished", {}, r"Unfinished.forward too many positional arguments"),
        (f"{__name__}:Margin", {"size": 1}, "found argument 'size', expected one of margin, mode"),
        (f"{__name__}:Margin", {"margin": "wide"}, "could not convert string to float: 'wide'"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(
    name: str,
    arguments: dict[str, bool | int | float | str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken_term.py").write_text("class Term(:\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        build_term(TermSpec(name, 1.0, arguments))

    assert "\n" not in str(raised.value)
