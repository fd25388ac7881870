"""The names that a query may stand for."""

from __future__ import annotations

import pytest

from app.completion import Completions
from app.domain import Item
from app.lexicon import Lexicon
from app.near_names import NearNames, likelihood

ITEMS = [
    Item("1", "Bohemian Rhapsody", artist="Queen", popularity=98.0),
    Item("2", "Bohemian Like You", artist="The Dandy Warhols", popularity=60.0),
    Item("3", "Hiss", artist="Megan Thee Stallion", popularity=70.0),
    Item("4", "Chill Bill", artist="Rob Stone", popularity=50.0),
    Item("5", "Diana", artist="Paul Anka", popularity=40.0),
    Item("6", "Only", artist="Nine Inch Nails", popularity=30.0),
    Item("7", "Only You", artist="Yazoo", popularity=65.0),
    Item("8", "Only One Thing in the Whole Wide World", artist="Nobody", popularity=65.0),
]


@pytest.fixture(scope="module")
def near() -> NearNames:
    return NearNames(Lexicon(ITEMS), Completions(ITEMS))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        pytest.param("bohemian rh", "bohemian rhapsody", id="half typed"),
        pytest.param("bohemain rapsody", "bohemian rhapsody", id="two typing errors"),
        pytest.param("dinap", "diana", id="no trigram left"),
        pytest.param("only", "only you", id="a whole name that begins another"),
        pytest.param("paul anca", "paul anka", id="artist"),
    ],
)
def test_the_name_meant_is_likely(near: NearNames, query: str, name: str) -> None:
    """A name half typed or misspelt is among the names found, as likely as a name has to be."""
    assert dict(near(query))[name] >= 0.75


def test_of_names_that_begin_so_the_one_nearly_typed_is_likelier(near: NearNames) -> None:
    """Equally popular names come in the order of the letters that are missing."""
    found = dict(near("only"))
    assert found["only you"] > found["only one thing in the whole wide world"]
    assert list(found).index("only you") < list(found).index("only one thing in the whole wide world")


@pytest.mark.parametrize("query", ["chill hits", "sad songs for a rainy day", "!!", ""])
def test_a_description_is_no_name(near: NearNames, query: str) -> None:
    """What merely resembles a name in some letters is not likely to be one, and the query itself is never among them."""
    found = dict(near(query))
    assert query not in found and max(found.values(), default=0.0) < 0.6


@pytest.mark.parametrize(
    ("query", "name", "least", "most"),
    [
        pytest.param("hisz", "hiss", 0.9, 0.9, id="one edit"),
        pytest.param("hs", "hiss", 0.8, 0.8, id="two edits"),
        pytest.param("eveybody's ooot of town", "everybody's out of town", 0.75, 0.95, id="more edits in a long name"),
        pytest.param("chill hits", "chill bill", 0.0, 0.0, id="another word"),
        pytest.param("twenty one pilots radio", "twenty one pilots", 0.0, 0.0, id="a word more"),
        pytest.param("thun der struck", "thunderstruck", 0.85, 0.9, id="spaces are no words more"),
        pytest.param("halo", "thunderstruck", 0.0, 0.0, id="nothing alike"),
        pytest.param("lil teca and guna", "lil tecca & gunna", 0.6, 0.9, id="and"),
    ],
)
def test_likelihood(query: str, name: str, least: float, most: float) -> None:
    """Typing errors keep a name likely, another word makes it impossible."""
    assert least <= likelihood(query, name) <= most


@pytest.mark.parametrize(
    ("query", "likely"),
    [
        pytest.param("bohemian like yuo", True, id="nothing is spelt so"),
        pytest.param("bohemian like ooy", True, id="two letters of three wrong, of seventeen"),
        pytest.param("bohemian like only", False, id="another word"),
    ],
)
def test_only_a_word_that_exists_is_another_one(near: NearNames, query: str, likely: bool) -> None:
    """Where nearly all letters are right, what no row of the catalogue has is a bad slip."""
    assert (dict(near(query)).get("bohemian like you", 0.0) > 0.6) is likely


def test_words_that_exist_are_seldom_slips() -> None:
    """Of two queries an edit away from a name the one of existing words alone is less likely that name misspelt."""
    items = [Item("1", "Bad Boys", artist="Wham!"), Item("2", "Sad Songs", artist="Elton John")]
    near = NearNames(Lexicon(items), Completions(items))
    assert dict(near("sad boys"))["bad boys"] < dict(near("pad boys"))["bad boys"]


@pytest.mark.parametrize(
    ("query", "begun"),
    [("bohemian rh", True), ("queen", True), ("bohemain rh", False), ("rhapsody", False), ("", False)],
)
def test_what_begins_a_name(near: NearNames, query: str, begun: bool) -> None:
    """The first part of a name or all of it, without a slip; not its other words."""
    assert near.begun(query) is begun
