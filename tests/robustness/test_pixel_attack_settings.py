"""Settings of the paper's attacks: which are refused, described and kept in fingerprints."""

import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest

from robustness.attack import Attack, attacks_fingerprint
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.plan import make_plan
from tests.robustness.pixel_batches import (
    CONTROL,
    COUNTS,
    PIXELS,
    VALUES,
    pixel_batch,
)
from tests.robustness.toy import (
    CONF,
    attack_specs,
    build,
    check_refused,
)

NAN, INF = float("nan"), float("inf")
WRONG: dict[str, tuple[Callable[[], Attack], str]] = {
    "name": (lambda: LevelAttack("Top 5", (0.1,)), "attack Top 5: name is Top 5, expected letters"),
    "no name": (lambda: LevelAttack("", (0.1,)), "name is , expected letters"),
    "ranking": (
        lambda: LevelAttack("a", (0.1,), ranking="gradent_abs"),
        r"attack a: ranking is gradent_abs, expected one of gradient, gradient_abs, "
        r"gradient_logit, gradient_low, edge, intensity_matched, random "
        r"\(did you mean gradient_abs\?\)",
    ),
    "far ranking": (lambda: CountAttack("a", (1,), ranking="?"), "intensity_matched, random$"),
    "repeats": (lambda: LevelAttack("a", (0.1,), repeats=0), "repeats is 0, expected 1 or more"),
    "no levels": (lambda: LevelAttack("a", ()), r"points is \(\), expected one or more finite"),
    "nan level": (lambda: LevelAttack("a", (NAN,)), "expected one or more finite"),
    "falling": (lambda: LevelAttack("a", (0.2, 0.1)), "expected rising numbers, each once"),
    "twice": (lambda: CountAttack("a", (5, 5)), "expected rising numbers, each once"),
    "pixels": (lambda: LevelAttack("a", (0.1,), pixels=0), "pixels is 0, expected 1 or more"),
    "counts": (lambda: CountAttack("a", (0, 1)), r"counts is \(0, 1\), expected 1 or more pixels"),
    "value": (
        lambda: CountAttack("a", (1,), value="unifrom"),
        r"value is unifrom, expected a finite number or one of uniform, salt_and_pepper, directed, "
        r"local_median \(did you mean uniform\?\)",
    ),
    "nan value": (lambda: CountAttack("a", (1,), value=NAN), "value is nan, expected a finite"),
    "range": (
        lambda: CountAttack("a", (1,), low=1.0, high=1.0),
        r"low and high is \(1.0, 1.0\), expected finite numbers, low below high",
    ),
    "endless range": (lambda: CountAttack("a", (1,), high=INF), "expected finite numbers"),
    "nan range": (lambda: CountAttack("a", (1,), low=NAN), "expected finite numbers"),
    "repeated level": (
        lambda: LevelAttack("a", (0.1,), repeats=2),
        "repeats is 2, expected 1, since nothing in it is random",
    ),
    "repeated count": (
        lambda: CountAttack("a", (1,), value=0.2, repeats=2),
        "repeats is 2, expected 1, since nothing in it is random",
    ),
    "repeated edge": (
        lambda: CountAttack("a", (1,), ranking="edge", value="directed", repeats=2),
        "repeats is 2, expected 1, since nothing in it is random",
    ),
    "width of nothing": (
        lambda: LevelAttack("a", (0.1,), half_width=0.01),
        "half_width is 0.01, expected 0, since nothing in it is random",
    ),
    "negative width": (
        lambda: CountAttack("a", (1,), repeats=9, half_width=-0.1),
        "half_width is -0.1, expected a difference of Dice from 0 to below 1",
    ),
    "width of few": (
        lambda: CountAttack("a", (1,), repeats=4, half_width=0.01),
        "repeats is 4, expected an even number of 6 or more, since half_width takes pairs",
    ),
    "width of odd": (
        lambda: LevelAttack("a", (1.0,), ranking="random", repeats=9, half_width=0.01),
        "repeats is 9, expected an even number of 6 or more, since half_width takes pairs",
    ),
    "idle range": (
        lambda: CountAttack("a", (1,), value=0.2, low=-3.0),
        "low is -3.0, expected 0.0: no effect where value is 0.2",
    ),
    "idle end": (
        lambda: CountAttack("a", (1,), value="local_median", high=9.0),
        "high is 9.0, expected 1.0: no effect where value is local_median",
    ),
    "idle window": (
        lambda: CountAttack("a", (1,), window=5),
        "window is 5, expected 3: no effect where value is uniform",
    ),
    "idle likeness": (
        lambda: CountAttack("a", (1,), value="directed", values_like="b"),
        "values_like is b, expected '': no effect where value is directed",
    ),
    "window": (lambda: CountAttack("a", (1,), window=4), "window is 4, expected 3 or 5"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_that_make_no_sense_are_refused(wrong: str) -> None:
    check_refused(*WRONG[wrong])


def test_a_control_has_its_values_from_an_attack_of_the_list() -> None:
    make_plan([VALUES, CONTROL])
    for attacks, message in (
        (
            [COUNTS, CONTROL],
            r"values_like is values, expected another attack whose values are drawn",
        ),
        ([replace(VALUES, name="valuse"), CONTROL], r"one of valuse \(did you mean valuse\?\)"),
        (
            [replace(VALUES, high=4.0), CONTROL],
            r"values_like is values, uniform in \[2.0, 4.0\), expected an attack with its own",
        ),
        (
            [replace(VALUES, half_width=0.1, repeats=6), CONTROL],
            r"uniform in \[2.0, 3.0\) in pairs \(half_width above 0\), expected an attack",
        ),
    ):
        with pytest.raises(ValueError, match=f"attack values_control: .*{message}"):
            make_plan(attacks)


def test_attacks_that_take_more_pixels_than_a_slice_has_are_refused() -> None:
    for attack in (
        LevelAttack("a", (0.1,), pixels=PIXELS + 1),
        CountAttack("a", (PIXELS + 1,), ranking="random"),
    ):
        with pytest.raises(ValueError, match="145 pixels to take, but an image has only 144"):
            list(attack.disturb(pixel_batch(), 0))


def test_every_option_is_described() -> None:
    """The command line shows these lines."""
    for kind in (LevelAttack, CountAttack):
        described = inspect.getdoc(kind) or ""
        assert all(f"{option}: " in described for option in inspect.signature(kind).parameters)


# The fingerprint of the default attacks, as runs of earlier versions have stored it.
STORED = "b90f1d9cb0a1e0eaae781a83a8a5561c3b8f88a198bbb04683288c7313724dd6"


def test_later_options_leave_earlier_fingerprints_as_they_were() -> None:
    """Repeats were given by number then: five of random values, one of random pixels."""
    attacks = []
    for path, options in attack_specs(CONF / "default.yaml"):
        drawn = options.get("value") == "uniform"
        given = {**options, "repeats": 5 if drawn else 1}
        given.pop("half_width", None)
        attacks.append(build((path, given)))
    assert attacks_fingerprint(attacks, 0) == STORED
    first = attacks[0]
    assert isinstance(first, LevelAttack)
    for changed in (replace(first, valid_only=True), replace(first, per_channel=True)):
        assert attacks_fingerprint([changed, *attacks[1:]], 0) != STORED
    assert replace(COUNTS, value="local_median", window=5).settings()["window"] == 5
    assert not {"valid_only", "per_channel", "window", "half_width"} & set(COUNTS.settings())
