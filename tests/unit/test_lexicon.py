"""The lexicon: what counts as a name, and which readings it proposes for a mistyped query."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from app.domain import Item
from app.lexicon import HOPELESS, Lexicon
from app.settings import ROOT

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


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        pytest.param("thunder struck", "thunderstruck", id="a space added"),
        pytest.param("smellslike teen spirit", "smells like teen spirit", id="a space dropped"),
        pytest.param("billiejean", "billie jean", id="two words run together"),
    ],
)
def test_spaces_are_mended(lexicon: Lexicon, query: str, meant: str) -> None:
    """Words are joined and split, and the mended text is the first candidate."""
    assert lexicon.candidates(query, 6)[0].text == meant


def test_the_likelier_name_comes_first() -> None:
    """Of two names one letter away the famous one leads; a cheaper error outweighs fame."""
    famous = Item("1", "Halo", popularity=100.0)
    lexicon = Lexicon([famous, Item("2", "Hallo"), Item("3", "Helo")])
    assert lexicon.likely_names("hhalo")[0].text == "halo"
    assert lexicon.price("hllo", "hallo") < lexicon.price("hllo", "zallo")
    assert lexicon.price("halo", "halo") == 0.0


def test_obscure_names_have_rivals_and_famous_ones_none() -> None:
    """A catalogue holds misspelt names: next to a far more famous one they are not beyond doubt. Famous names are."""
    lexicon = Lexicon([Item("1", "Missing Persons", popularity=100.0), Item("2", "Misiing Persons")])
    assert [c.text for c in lexicon.rivals("misiing persons", 5)] == ["missing persons"]
    assert lexicon.rivals("missing persons", 5) == []


def test_names_added_later_are_names_at_once() -> None:
    """A lexicon that takes in a row protects and proposes its names: nothing is trained. One that lets it go forgets them."""
    lexicon = Lexicon(CATALOGUE)
    new = Item("new", "Zorblax Quintessence", artist="Vexillum Nine")
    assert not lexicon.is_name("zorblax quintessence")
    lexicon.update([new], [])
    assert lexicon.is_name("zorblax quintessence") and lexicon.is_name("vexillum nine zorblax quintessence")
    assert lexicon.candidates("zorblax quintesence", 5)[0].text == "zorblax quintessence"
    lexicon.update([], [new])
    assert not lexicon.is_name("zorblax quintessence") and not lexicon.is_name("vexillum nine")
    assert lexicon.word_fame("zorblax") == 0.0
    assert lexicon.candidates("zorblax quintesence", 5) == []


def test_a_name_stays_while_a_row_bears_it() -> None:
    """One song of an artist goes: the song is no name any more, the artist is until the last one goes."""
    lexicon = Lexicon(CATALOGUE)
    lexicon.update([], [CATALOGUE[0]])
    assert not lexicon.is_name("billie jean") and not lexicon.is_name("michael jackson billie jean")
    assert lexicon.is_name("michael jackson") and lexicon.is_name("beat it michael jackson")
    lexicon.update([], [CATALOGUE[1]])
    assert not lexicon.is_name("michael jackson")


def test_readings_that_were_asked_for_once_follow_a_changed_catalogue() -> None:
    """What is remembered of a query must be forgotten when names come and go."""
    old, new = Item("1", "Thunderstruck"), Item("2", "Quintessence")
    lexicon = Lexicon([old])
    assert not lexicon.candidates("quintesence", 3)
    lexicon.update([new], [old])
    assert [c.text for c in lexicon.candidates("quintesence", 3)] == ["quintessence"]
    assert not lexicon.candidates("thunderstuck", 3)


def test_hopeless_readings_are_not_proposed(lexicon: Lexicon) -> None:
    """Proposals are the candidates within `HOPELESS` nats of the likeliest, in their order; a famous name has none."""
    for query in ("bilie jean", "smels like teen sprit", "thunderstuck ac dc", "quintesence"):
        found, proposed = lexicon.candidates(query, 5), lexicon.proposals(query, 5)
        costs = {c.text: lexicon.price(query, c.text) + lexicon.rarity(c.text) for c in found}
        least = min(costs.values(), default=0.0)
        assert [c.text for c in proposed] == [text for text, cost in costs.items() if cost <= least + HOPELESS]
    assert lexicon.proposals("billie jean", 5) == []


READINGS = """
from app.index.readers import read_items
from app.domain import Item
from app.lexicon import Lexicon
from app.settings import ROOT
lexicon = Lexicon(row for row in read_items(ROOT / "app" / "data" / "demo.csv") if isinstance(row, Item))
for query in ("the news", "the shi", "the rising", "the chicks", "otis redding", "the mcelroys"):
    print(query, [candidate.text for candidate in lexicon.candidates(query, 12)])
"""


def test_readings_are_the_same_at_each_start() -> None:
    """Names that are equally near and trigrams equally rare come in the catalogue's order, not in that of Python's hashes."""
    runs = [
        subprocess.run([sys.executable, "-c", READINGS], capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
        for environment in ({**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2", "3"))
    ]
    assert len({run.stdout for run in runs}) == 1 and "the shins" in runs[0].stdout
