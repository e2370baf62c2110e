"""The list of losses, the check of a term, and the documentation that is made of both."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from commands.losses import main, markdown_table
from errors import InputError
from lightning_module.losses.compound import CompoundLoss
from lightning_module.losses.laws import LAWS
from lightning_module.losses.registry import TERMS

PROJECT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = (PROJECT / "docs" / "losses.md").read_text(encoding="utf-8")
MARK = "<!-- python main.py losses --markdown -->\n"


class Brier(nn.Module):
    """Mean squared error of the probabilities."""

    outputs = ("sigmoid",)

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        error = torch.where(valid, (wide.sigmoid() - target) ** 2, 0)
        return error.sum((2, 3)) / valid.sum((2, 3)).clamp(min=1)


class Rising(Brier):
    """Wrong in two ways, and exempt from one of them."""

    exempt = {"minimum": "it was never meant to be 0 there"}  # noqa: RUF012

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        return 2 - super().forward(logits, target, valid)


class Crashing(Brier):
    """Raises."""

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        return logits.reshape(7)


def test_all_terms_are_listed_with_what_a_user_wants_to_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name, entry in TERMS.items():
        assert name in printed
        for fact in (entry.formula, entry.source, entry.range, entry.empty, entry.smooth):
            assert " ".join(fact.split()) in printed


def test_one_term_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["focal"]) == 0
    printed = capsys.readouterr().out
    assert "focal(gamma=2, alpha=0.25)" in printed
    assert "at the perfect prediction: 0" in printed
    assert "Lin et al." in printed
    assert "alpha: Weight of foreground" in printed


def test_a_good_term_of_ones_own_keeps_all_laws(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", f"{__name__}:Brier"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("pass") == len(LAWS)
    assert "all laws hold" in printed


def test_a_wrong_term_is_told_where_it_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", f"{__name__}:Rising"]) == 1
    printed = capsys.readouterr().out
    assert "exempt  minimum" in printed
    assert "never meant to be 0" in printed
    assert "FAIL    improves" in printed
    assert "1 broken" in printed


def test_a_term_that_raises_breaks_laws_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--check", f"{__name__}:Crashing"]) == 1
    assert "raised RuntimeError: shape '[7]' is invalid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["focl"], "nearest: focal"),
        (["--check", "focl"], "nearest: focal"),
        (["--check", "nowhere.at_all:Term"], "nowhere.at_all"),
        (["--check", "focal(gamma=-1)"], "gamma: found -1"),
        (["--check", "bce+dice"], "one term"),
        (["--chek", "bce"], "--chek"),
    ],
)
def test_wrong_names_are_one_line(options: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        main(options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys, commands.losses as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "--check" in done.stdout
    assert done.stdout.endswith("False\n")


def test_the_documentations_table_is_made_from_the_registry(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, mark, table = DOCUMENT.partition(MARK)
    assert mark
    assert table.strip() == markdown_table(TERMS), "make it again: main.py losses --markdown"
    assert main(["--markdown"]) == 0
    assert capsys.readouterr().out.strip() == table.strip()


def test_the_documentations_example_is_true() -> None:
    """Step by step in numpy, and the total by the compound."""
    example = yaml.safe_load(DOCUMENT.partition("```yaml\n")[2].partition("```")[0])
    logits, target = np.array(example["logits"]), np.array(example["target"])
    valid = np.array(example["valid"])[:, np.newaxis]
    probs = 1 / (1 + np.exp(-logits))
    pixels = -(target * np.log(probs) + (1 - target) * np.log(1 - probs))
    bce = (pixels * valid).sum(2) / valid.sum(2)
    shared, size = (probs * target * valid).sum(2), ((probs + target) * valid).sum(2)
    dice = 1 - (2 * shared + 1) / (size + 1)
    added = (bce + 0.5 * dice) * np.array(example["class_weights"])
    by_image = added.mean(1)
    weighed = by_image * np.array(example["sample_weights"])
    for name, values in {
        "bce": bce,
        "dice": dice,
        "added": added,
        "by_image": by_image,
        "weighed": weighed,
        "total": weighed.mean(),
    }.items():
        np.testing.assert_allclose(example[name], values, atol=5.1e-5, err_msg=name)
    assert f"{pixels[0, 0, 3]:.4f}" in DOCUMENT

    value = CompoundLoss("bce+0.5*dice(squared=false,smooth=1)", example["class_weights"])(
        torch.tensor(logits).reshape(2, 2, 2, 2),
        torch.tensor(target).reshape(2, 2, 2, 2),
        torch.tensor(valid).bool().reshape(2, 1, 2, 2),
        torch.tensor(example["sample_weights"]),
    )
    assert value.total.item() == pytest.approx(weighed.mean(), rel=1e-6)


def test_the_documentations_term_of_ones_own_keeps_the_laws() -> None:
    source = DOCUMENT.partition("```python\n")[2].partition("```")[0]
    names: dict[str, type[nn.Module]] = {}
    exec(f"import torch\n{source}", names)
    for name, law in LAWS.items():
        assert law.check(names["Brier"](), False, 0.0) is None, name
