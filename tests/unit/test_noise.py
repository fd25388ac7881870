"""The noise model that makes typos: repeatable, bounded and never without effect."""

from __future__ import annotations

import random

import pytest
from rapidfuzz.distance import OSA

from training.noise import OPERATORS, WEIGHTS, corrupt

NAMES = (
    "billie jean michael jackson",
    "smells like teen spirit",
    "simon & garfunkel",
    "ac/dc",
    "halo",
    "deadmau5",
    "r.e.m.",
    "abba",
)
CASES = [(name, seed) for name in NAMES for seed in range(150)]
WIDEST = 3  # letters that one operator may change: "and" for "&", "ight" for "ite"


def test_the_same_seed_makes_the_same_typos() -> None:
    """A typo depends on the text and the generator alone, and other seeds make others."""
    once = [corrupt(name, random.Random(seed)) for name, seed in CASES]
    assert once == [corrupt(name, random.Random(seed)) for name, seed in CASES]
    assert len({corrupt(NAMES[0], random.Random(seed)) for seed in range(150)}) > 75


def test_it_draws_from_its_generator_alone() -> None:
    """The global generator is neither used nor disturbed."""
    random.seed(7)
    state = random.getstate()
    corrupt(NAMES[0], random.Random(1))
    assert random.getstate() == state


@pytest.mark.parametrize("edits", [1, 2, 3, None])
def test_typos_change_something_and_not_too_much(edits: int | None) -> None:
    """A name comes back changed, by no more letters than its edits can change, with single spaces."""
    for name, seed in CASES:
        typo = corrupt(name, random.Random(seed), edits)
        assert 0 < OSA.distance(name, typo) <= WIDEST * (edits or 3), (name, typo)
        assert " ".join(typo.split()) == typo != ""


def test_one_edit_is_mostly_one_letter() -> None:
    """One edit is a distance of one but for phonetic swaps and words of their own: nine in ten."""
    ones = sum(OSA.distance(name, corrupt(name, random.Random(seed), 1)) == 1 for name, seed in CASES)
    assert ones / len(CASES) > 0.9


@pytest.mark.parametrize("text", ["", "!!!", "1975"])
def test_text_without_letters_is_survived(text: str) -> None:
    """Where there is no letter to mistype, nothing is raised and nothing is made up."""
    for seed in range(50):
        assert OSA.distance(text, corrupt(text, random.Random(seed))) <= WIDEST


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_every_operator_takes_any_text(operator) -> None:  # type: ignore[no-untyped-def]
    """Operators have a weight and answer text for whatever they are given."""
    assert WEIGHTS[operator] > 0
    for text in ("", "a", " ", "&", "aa bb", *NAMES):
        assert isinstance(operator(text, random.Random(3)), str)
