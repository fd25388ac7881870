"""What the best hit's name may be offered for, and what it may not."""

from __future__ import annotations

import pytest

from app.catalogue_correction import CONFIDENCE, offer
from app.domain import Alternative, Correction, Hit, Item

BOHEMIAN = Item("1", "Bohemian Rhapsody (Remastered)", artist="Queen")
HONEY = Item("2", "Honey, Honey", artist="ABBA")
DAILY = Item("3", "The Daily", "podcast", "The New York Times")
SEASONS = Item("4", "Symphony 41 in C", artist="Mozart")
MONEY = Item("5", "Money, Money, Money", artist="ABBA")


def hits(*items: Item) -> list[Hit]:
    return [Hit(item, 1.0 - place / 10, ("title",)) for place, item in enumerate(items)]


@pytest.mark.parametrize(
    ("typed", "items", "offered"),
    [
        pytest.param("bohemain rhapsody", [BOHEMIAN], "bohemian rhapsody", id="title without its brackets"),
        pytest.param("bohemian rapsody queen", [BOHEMIAN], "bohemian rhapsody queen", id="title and artist"),
        pytest.param("queen bohemian rapsody", [BOHEMIAN], "queen bohemian rhapsody", id="artist and title"),
        pytest.param("bohemian rhapsody", [BOHEMIAN], None, id="the name itself"),
        pytest.param("bohemianrhapsody", [BOHEMIAN], None, id="spaces alone"),
        pytest.param("bohemian rapsodies live", [BOHEMIAN], None, id="too far"),
        pytest.param("bohemian rhapsody a", [BOHEMIAN], None, id="a word more"),
        pytest.param("honey money", [HONEY, MONEY], None, id="a word that another hit has"),
        pytest.param("honey huney", [HONEY, MONEY], "honey, honey", id="a word that no hit has"),
        pytest.param("symphony 40 in c", [SEASONS], None, id="other digits"),
        pytest.param("symphoney 41 in c", [SEASONS], "symphony 41 in c", id="the same digits"),
        pytest.param("the new yrok times", [DAILY], None, id="a publisher is no name"),
        pytest.param("", [BOHEMIAN], None, id="nothing"),
        pytest.param("!!!", [BOHEMIAN], None, id="signs alone"),
        pytest.param("bohemain rhapsody", [], None, id="no hits"),
        pytest.param("bohemain rhapsody", [DAILY, BOHEMIAN], None, id="not the best hit"),
    ],
)
def test_a_near_name_of_the_best_hit_is_offered(typed: str, items: list[Item], offered: str | None) -> None:
    """With the speller away the best hit's name is offered where what was typed is a misspelling of it, else nothing."""
    expected = None if offered is None else Correction(typed, offered, True, CONFIDENCE, "suggest")
    assert offer(typed, None, hits(*items)) == expected


TYPED = "bohemain rhapsody"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param(Correction(TYPED, TYPED, False, 0.6, "none"), False, id="unsure"),
        pytest.param(Correction(TYPED, TYPED, False, 0.99, "none"), True, id="sure that it is right"),
        pytest.param(Correction(TYPED, "bohemian rap", True, 0.3, "suggest"), True, id="suggests something"),
        pytest.param(Correction(TYPED, "bohemian rap", True, 0.9, "replace"), True, id="replaces it"),
        pytest.param(Correction(TYPED, "bo hemain rhapsody", False, 0.6, "none"), True, id="mends a space"),
    ],
)
def test_a_decided_speller_is_not_contradicted(said: Correction, kept: bool) -> None:
    """What the speller decided stands; only a query that it leaves alone, unsure, may have a suggestion."""
    found = offer(TYPED, said, hits(BOHEMIAN))
    assert (found == said) is kept
    assert found is not None and (kept or found.corrected == "bohemian rhapsody")


def test_the_spellers_other_readings_stay() -> None:
    """Alternatives are kept, without the one that is offered now."""
    others = (Alternative("bohemian rhapsody", 0.2), Alternative("bohemian rhapsodies", 0.1))
    found = offer(TYPED, Correction(TYPED, TYPED, False, 0.6, "none", others), hits(BOHEMIAN))
    assert found is not None and found.alternatives == others[1:]
