"""The lexicon: what counts as a name, and which readings it proposes for a mistyped query."""

from __future__ import annotations

import pytest

from app.domain import Item
from app.lexicon import Lexicon, NgramLookup, ngrams

CATALOGUE = (
    Item("billie", "Billie Jean", artist="Michael Jackson", popularity=98.0),
    Item("beat", "Beat It", artist="Michael Jackson", popularity=92.0),
    Item("teen", "Smells Like Teen Spirit", artist="Nirvana", popularity=97.0),
    Item("halo", "Halo", artist="Beyoncé", popularity=90.0),
    Item("small", "All the Small Things", artist="blink-182", popularity=88.0),
    Item("strobe", "Strobe", artist="deadmau5", popularity=70.0),
    Item("thunder", "Thunderstruck", artist="AC/DC", popularity=92.0),
    Item("abba", "ABBA", "artist", "ABBA", popularity=95.0),
    Item("daily", "The Daily", "podcast", "The New York Times", popularity=80.0),
)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(CATALOGUE)


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        pytest.param("bilie jean micheal jackson", "billie jean michael jackson", id="title and artist"),
        pytest.param("micheal jackson bilie jean", "michael jackson billie jean", id="artist and title"),
        pytest.param("smels like teen sprit", "smells like teen spirit", id="two words of a title"),
        pytest.param("nirvanna", "nirvana", id="a doubled letter"),
        pytest.param("beyonec", "beyonce", id="two letters swapped"),
        pytest.param("thunderstuck", "thunderstruck", id="a letter missing"),
        pytest.param("billi jean strobe", "billie jean strobe", id="words of no one name"),
    ],
)
def test_what_was_meant_is_proposed(lexicon: Lexicon, query: str, meant: str) -> None:
    """The reading that was meant is among the candidates, for the model to choose."""
    assert meant in [candidate.text for candidate in lexicon.candidates(query, 6)]


@pytest.mark.parametrize("query", ["", " ", "zzzzqqqq", "123456", "!!!", "x" * 256, "مرحبا", "😀", "a " * 128, "halo"])
@pytest.mark.parametrize("limit", [1, 6])
def test_candidates_are_distinct_and_few(lexicon: Lexicon, query: str, limit: int) -> None:
    """Any folded text gets at most `limit` different candidates, never itself or nothing."""
    texts = [candidate.text for candidate in lexicon.candidates(query, limit)]
    assert len(texts) == len(set(texts)) <= limit
    assert query not in texts
    assert "" not in texts


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        pytest.param("billie jean", True, id="title"),
        pytest.param("beyonce", True, id="artist, folded"),
        pytest.param("ac/dc", True, id="artist with a sign"),
        pytest.param("halo beyonce", True, id="title artist"),
        pytest.param("beyonce halo", True, id="artist title"),
        pytest.param("abba abba", False, id="an artist is no pair with itself"),
        pytest.param("the daily the new york times", False, id="podcasts make no pairs"),
        pytest.param("jean", False, id="a word of a name"),
        pytest.param("halo nirvana", False, id="title of one, artist of another"),
    ],
)
def test_names(lexicon: Lexicon, text: str, is_name: bool) -> None:
    """Titles, artists and their pairs in both orders are names; nothing else is."""
    assert lexicon.is_name(text) is is_name


def test_fame_is_between_nothing_and_one(lexicon: Lexicon) -> None:
    """Unknown words have fame 0, the most frequent 1, and a word of two hits more than one of a single lesser hit."""
    assert lexicon.word_fame("zzz") == 0.0
    assert max(lexicon.word_fame(word) for word in lexicon.words) == 1.0
    assert 1.0 >= lexicon.word_fame("jackson") > lexicon.word_fame("strobe") > 0.0


def test_an_empty_catalogue_proposes_nothing() -> None:
    """A lexicon of nothing is a lexicon."""
    empty = Lexicon([])
    assert (empty.candidates("halo", 6), empty.is_name("halo"), empty.word_fame("halo")) == ([], False, 0.0)


def test_ngrams_ignore_the_order_of_words() -> None:
    """Words are marked at their ends and taken apart one by one; a word shorter than the n-gram is one itself."""
    assert ngrams("ab", (3,)) == {"^ab", "ab$"}
    assert ngrams("a", (4,)) == {"^a$"}
    assert ngrams("billie jean", (2, 3)) == ngrams("jean billie", (2, 3))


def test_lookup_prefers_what_is_rare() -> None:
    """Sharing a rare part counts more than sharing one that all texts have; what shares nothing is not returned."""
    lookup = NgramLookup(["the end", "the wall", "the zoo", "kite"], (3,))
    assert lookup.texts[lookup.nearest("the zo", 1)[0]] == "the zoo"
    assert sorted(lookup.nearest("the zoo", 10)) == [0, 1, 2]
    assert lookup.nearest("qqq", 10) == []
