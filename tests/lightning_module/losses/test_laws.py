"""Every registered term against every law, and laws against terms that break them."""

import pytest
import torch
from torch import Tensor, nn

from lightning_module.losses.building import build_term
from lightning_module.losses.entry import EITHER, Entry
from lightning_module.losses.expression import TermSpec
from lightning_module.losses.laws import LAWS, broken_law
from lightning_module.losses.registry import TERMS

CASES = [
    pytest.param(name, entry, law, outputs, id=f"{name}-{outputs}-{law}")
    for name, entry in TERMS.items()
    for outputs in entry.outputs
    for law in LAWS
]


@pytest.mark.parametrize(("name", "entry", "law", "outputs"), CASES)
def test_every_term_keeps_the_laws_it_is_not_exempt_from(
    name: str, entry: Entry, law: str, outputs: str
) -> None:
    exclusive = outputs == "softmax"
    term = build_term(TermSpec(name), exclusive=exclusive)
    broken = broken_law(LAWS[law], term, exclusive=exclusive, minimum=entry.minimum)
    if law in entry.exempt:
        assert len(entry.exempt[law].split()) > 3, "an exemption carries its reason"
        if entry.outputs[0] == outputs:
            assert broken, f"{name} keeps the law {law}: it needs no exemption"
    else:
        assert broken is None, broken


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("name", "arguments", "exclusive"),
    [
        ("dice", {"background": False}, True),
        ("generalized_dice", {"background": False}, True),
        ("batch_dice", {"squared": False, "smooth": 1.0}, False),
        ("focal", {"gamma": 0.5, "alpha": 0.75}, False),
        ("tversky", {"alpha": 0.0, "beta": 1.0}, False),
        ("topk", {"k": 1.0}, True),
        ("gce", {"q": 0.1}, True),
        ("hausdorff", {"alpha": 1.0}, False),
        ("cldice", {"iterations": 5}, False),
        ("unified_focal", {"weight": 0.2, "gamma": 0.3}, True),
        ("ml1_ace", {"bins": 5}, False),
    ],
)
def test_laws_hold_for_other_settings_too(
    name: str, arguments: dict[str, bool | int | float | str], exclusive: bool, law: str
) -> None:
    term = build_term(TermSpec(name, 1.0, arguments), exclusive=exclusive)
    entry = TERMS[name]
    assert law in entry.exempt or (
        broken_law(LAWS[law], term, exclusive=exclusive, minimum=entry.minimum) is None
    )


@pytest.mark.parametrize("name", TERMS)
def test_every_entry_says_what_a_user_wants_to_know(name: str) -> None:
    entry = TERMS[name]
    texts = (entry.formula, entry.source, entry.range, entry.empty, entry.smooth)
    assert all(texts), texts
    assert set(entry.outputs) <= set(EITHER)
    assert set(entry.exempt) <= set(LAWS)
    assert entry.term.__doc__


class Broken(nn.Module):
    """Breaks the law that it is told to break, and keeps the others."""

    def __init__(self, law: str) -> None:
        super().__init__()
        self.law = law

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        probs = logits.float() if logits.dtype != torch.float64 else logits
        probs = probs.sigmoid()
        wrong = torch.where(valid, (probs - target).square(), probs.new_zeros(()))
        value = wrong.sum((2, 3)) / valid.sum((2, 3)).clamp(min=1)
        if self.law == "shape":
            value = value.mean(1, keepdim=True)
        if self.law == "finite":
            value = value + 0 * (probs - 1).log().sum()
        if self.law == "gradient":
            value = value + 0.5 * (value - value.detach())
        if self.law == "minimum":
            value = value + 1
        if self.law == "improves":
            value = -value
        if self.law == "order":
            value = value * torch.arange(1, len(value) + 1).unsqueeze(1)
        if self.law == "padding":
            value = value + wrong.new_tensor(valid.shape[2])
        if self.law == "weights" and sample_weight is not None:
            value = value * sample_weight.unsqueeze(1)
        return value


@pytest.mark.parametrize("law", LAWS)
def test_a_term_that_breaks_a_law_is_found_out(law: str) -> None:
    assert LAWS[law].check(Broken("none"), False, 0.0) is None
    assert LAWS[law].check(Broken(law), False, 0.0) is not None
