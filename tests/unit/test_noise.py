"""The noise model that makes typos: repeatable, bounded and never without effect."""

from __future__ import annotations

import random

import pytest
from rapidfuzz.distance import OSA

from app.channel import Channel
from training.edits import KINDS, kinds
from training.noise import corrupt, fitted

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


@pytest.mark.parametrize("kind", KINDS)
def test_every_operator_takes_any_text(kind: str) -> None:
    """Each kind of error has a weight and an operator that answers text for whatever it is given."""
    assert fitted().weights[kind] > 0
    for text in ("", "a", " ", "&", "aa bb", "漢字", *NAMES):
        assert isinstance(fitted().operators[kind](text, random.Random(3)), str)


@pytest.mark.parametrize(
    ("typed", "meant", "expected"),
    [
        pytest.param("bohemian rapsodi", "bohemian rhapsody", ("sound-alike", "vowel"), id="silent-letter"),
        pytest.param("bohemian rhapsdy", "bohemian rhapsody", ("omission",), id="omission"),
        pytest.param("bitlie jean", "billie jean", ("substitution",), id="substitution"),
        pytest.param("bilie jean", "billie jean", ("undoubling",), id="undoubling"),
        pytest.param("billie jeean", "billie jean", ("doubling",), id="doubling"),
        pytest.param("billie jaen", "billie jean", ("transposition",), id="transposition"),
        pytest.param("billie jean", "billie jean", (), id="equal"),
        pytest.param("fil collins", "phil collins", ("sound-alike",), id="ph-f"),
        pytest.param("simon and garfunkel", "simon & garfunkel", ("and/&",), id="and"),
        pytest.param("postmalone", "post malone", ("space dropped",), id="space-dropped"),
        pytest.param("joh n legend", "john legend", ("space added",), id="space-added"),
        pytest.param("guns n roses", "guns n' roses", ("punctuation",), id="apostrophe"),
        pytest.param("motoerhead", "motorhead", ("diacritic",), id="mark-written-out"),
        pytest.param("hslo", "halo", ("neighbouring key",), id="neighbour"),
        pytest.param("hakio", "halo", ("neighbouring key", "fat finger"), id="two-errors"),
    ],
)
def test_errors_are_named(typed: str, meant: str, expected: tuple[str, ...]) -> None:
    """A pair of texts is aligned by the channel's costs and every difference has the name a reader would give it."""
    assert kinds(typed, meant, Channel.load()) == expected


def test_generated_kinds_have_the_fitted_shares() -> None:
    """What the noise makes of names is, seen through the same eyes, what it was fitted to: vowels and lost letters lead."""
    channel, rng = Channel.load(), random.Random(5)
    seen: dict[str, int] = dict.fromkeys(KINDS, 0)
    for _ in range(3000):
        name = rng.choice(NAMES[:4])
        for kind in kinds(corrupt(name, rng, 1), name, channel):
            seen[kind] += 1
    total = sum(seen.values())
    assert 0.13 < seen["vowel"] / total < 0.32
    assert 0.12 < seen["omission"] / total < 0.32
    assert seen["and/&"] / total < 0.05
