"""The look-ups of words and names against going through all of them."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from app.deletes import SymmetricDeletes
from app.lookup import NgramLookup, ngrams

RNG = random.Random(4)
WORDS = sorted({"".join(RNG.choices("abcdé", k=RNG.randint(1, 11))) for _ in range(3000)})
DELETES = SymmetricDeletes(WORDS)


@given(st.text("abcdé", min_size=1, max_size=12), st.integers(1, 2))
def test_deletes_find_all_words_within_two_edits(word: str, edits: int) -> None:
    """Symmetric deletes find exactly the words that a comparison with each word finds, with their distances."""
    expected = {(w, d) for w in WORDS if 0 < (d := OSA.distance(word, w)) <= edits}
    found = DELETES.near(word, edits)
    assert set(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize("word", ["", "漢", "a" * 200])
def test_deletes_take_any_word(word: str) -> None:
    """Nothing, another script or a very long word is looked up like any other."""
    assert all(0 < OSA.distance(word, w) <= 2 for w, _ in DELETES.near(word, 2))


def test_no_words_no_neighbours() -> None:
    """A look-up of nothing is a look-up."""
    assert SymmetricDeletes([]).near("halo", 2) == []
    assert NgramLookup([]).nearest("halo", 5) == []


def test_ngrams_ignore_the_order_of_words() -> None:
    """Words are marked at their ends and taken apart one by one; a word shorter than the n-gram is one itself."""
    assert ngrams("a", 4) == ["^a$"]
    assert sorted(ngrams("billie jean")) == sorted(ngrams("jean billie"))


def test_the_name_that_shares_most_is_first() -> None:
    """Nearest names come first, at most as many as asked for; what shares nothing is not returned."""
    lookup = NgramLookup(["the end", "the wall", "the zoo", "kite"])
    assert lookup.nearest("the zo", 1) == ["the zoo"]
    assert sorted(lookup.nearest("the zoo", 10)) == ["the end", "the wall", "the zoo"]
    assert lookup.nearest("qqq", 10) == []


def test_a_mistyped_name_is_on_the_shortlist() -> None:
    """One letter lost anywhere in a name of eight or more letters leaves it among the first two hundred of ten thousand."""
    rng = random.Random(11)
    names = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(8, 20))) for _ in range(10_000)]
    lookup = NgramLookup(names)
    for name in rng.sample(names, 200):
        i = rng.randrange(len(name))
        assert name in lookup.nearest(name[:i] + name[i + 1 :], 48)
