"""What the ranking adds to retrieval: exact names first, near names lifted, popularity, and what matched."""

from __future__ import annotations

import pytest

from app.domain import Hit, IndexQuery, Item
from app.index.entry import Entry
from app.index.ngrams import words
from app.index.ranking import AskedWords, Sides, name_boost, nearness, rank, shortlist
from app.index.schema import name_key, to_payload
from app.text import fold


def hits(text: str, items: list[Item], sides: Sides, names: tuple[tuple[str, float], ...] | None = None) -> list[Hit]:
    payloads = {point: Entry(to_payload(item)) for point, item in enumerate(items)}
    fused = shortlist(sides, 50)
    return rank(IndexQuery(text, None, 10, names=names), sides, fused, {point: payloads[point] for point in fused})


def test_a_certain_embedding_does_not_drown_the_very_name() -> None:
    """An item that bears the name typed must come first, though both other sides put another, more popular item first."""
    items = [Item("near", "Hello Again", popularity=100.0), Item("same", "Hello", popularity=1.0)]
    sides = Sides(meaning=[(0, 0.99), (1, 0.01)], name=[(0, 9.0), (1, 1.0)], same_name=[(1, 1.0)])
    assert [hit.item.id for hit in hits("hello", items, sides)] == ["same", "near"]


def test_among_items_of_one_name_the_popular_one_comes_first() -> None:
    """Popularity decides between namesakes, though the embedding prefers the other."""
    items = [Item("b", "Hello", popularity=40.0), Item("a", "Hello", artist="Adele", popularity=95.0)]
    sides = Sides(meaning=[(0, 0.5), (1, 0.4)], name=[(0, 9.0), (1, 8.0)], same_name=[(1, 1.0), (0, 1.0)])
    assert [hit.item.id for hit in hits("hello", items, sides)] == ["a", "b"]


def test_a_name_half_typed_comes_before_what_is_merely_near() -> None:
    """Items of names that the query may stand for come first, by likelihood, whatever the other sides say."""
    items = [Item("far", "Living Doll"), Item("likely", "Living It Down"), Item("less", "Living in the Plastic Age")]
    sides = Sides(meaning=[(0, 0.9)], name=[(0, 9.0), (2, 8.0)], titled=[(2, 1.0), (1, 1.0)])
    names = (("living it down", 0.95), ("living in the plastic age", 0.76))
    assert [hit.item.id for hit in hits("living i", items, sides, names)] == ["likely", "less", "far"]


def test_songs_of_a_misspelt_artist_come_before_what_shares_letters() -> None:
    """An artist two edits away is meant, not a title with the same beginning that both other sides put first."""
    items = [Item("letters", "Fat Lip", artist="Sum 41", popularity=70.0), Item("meant", "When I See U", artist="Fantasia")]
    sides = Sides(meaning=[(0, 0.6), (1, 0.3)], name=[(0, 9.0), (1, 1.0)], played_by=[(1, 1.0)])
    assert hits("fatnasea", items, sides, (("fantasia", 0.8),))[0].item.id == "meant"


def test_a_title_half_typed_comes_before_songs_of_an_artist_half_typed() -> None:
    """What begins both a title and an artist's name is more often the title, which is one item and not many."""
    items = [Item("artist", "Umbrella", artist="Livingston", popularity=60.0), Item("title", "Living on a Prayer")]
    sides = Sides(meaning=[(0, 0.6), (1, 0.5)], name=[(0, 9.0), (1, 8.0)], titled=[(1, 1.0)], played_by=[(0, 1.0)])
    names = (("living on a prayer", 0.76), ("livingston", 0.85))
    assert hits("living", items, sides, names)[0].item.id == "title"


def test_a_page_holds_few_items_of_one_name() -> None:
    """Of twelve songs called as typed three come first, then other names; the rest follow on the next page, none is lost."""
    items = [Item(f"same-{i}", "Happy", popularity=90.0 - i) for i in range(12)]
    others = [f"Happy {word}" for word in ("Together", "Xmas", "Days", "Ending", "Man", "Hour")]
    items += [Item(f"other-{i}", title) for i, title in enumerate(others)]
    sides = Sides(name=[(i, 9.0 - i / 10) for i in range(18)], same_name=[(i, 1.0) for i in range(12)])
    payloads = {point: Entry(to_payload(item)) for point, item in enumerate(items)}
    found = rank(IndexQuery("happy", None, 18), sides, shortlist(sides, 50), payloads)
    titles = [hit.item.title for hit in found]
    assert titles[:3] == ["Happy"] * 3 and sorted(titles[3:9]) == sorted(others) and titles[9] == "Happy"
    assert sorted(hit.item.id for hit in found) == sorted(item.id for item in items)


def test_the_embedding_decides_about_moods() -> None:
    """A query that names nothing must follow the embedding, not the item that shares a few letters."""
    items = [Item("mood", "Nutshell"), Item("letters", "Rainy Days and Mondays"), Item("other", "Happy")]
    sides = Sides(meaning=[(0, 0.8), (2, 0.5), (1, 0.45)], name=[(1, 12.0), (2, 4.0), (0, 3.0)])
    assert hits("sad songs for a rainy day", items, sides)[0].item.id == "mood"


def test_popularity_decides_among_what_a_description_fits() -> None:
    """Of songs that fit a mood about as well the popular one comes first; of songs near a name, the nearer."""
    items = [Item("fits", "Nutshell", popularity=10.0), Item("famous", "Everybody Hurts", popularity=95.0), Item("c", "Happy")]
    sides = Sides(meaning=[(0, 0.8), (1, 0.75), (2, 0.3)])
    described = hits("sad songs for a rainy day", items, sides, (("sad songs", 0.5),))
    named = hits("nutshel", items, sides, (("nutshell", 0.9),))
    assert [hit.item.id for hit in described] == ["famous", "fits", "c"]
    assert [hit.item.id for hit in named] == ["fits", "famous", "c"]


@pytest.mark.parametrize(
    ("query", "better", "worse"),
    [
        pytest.param(
            "queen", Item("1", "Queen", "artist", "Queen"), Item("2", "Innuendo", artist="Queen"), id="title over artist"
        ),
        pytest.param("queen", Item("1", "Innuendo", artist="Queen"), Item("2", "Killer Queen"), id="artist over near"),
        pytest.param("beatles help", Item("1", "Help!", artist="The Beatles"), Item("2", "Help!"), id="both over one"),
        pytest.param("bohem", Item("1", "Bohemian Rhapsody"), Item("2", "La Bohème"), id="beginning over middle"),
        pytest.param("bohemian rapsody", Item("1", "Bohemian Rhapsody"), Item("2", "Bohemian Like You"), id="near over far"),
    ],
)
def test_the_better_name_is_boosted_more(query: str, better: Item, worse: Item) -> None:
    """The boost must grow with how well an item's names fit what was typed."""
    key, entries = name_key(query), [Entry(to_payload(item)) for item in (better, worse)]
    boosts = [name_boost(key, entry, near) for entry, near in zip(entries, nearness(key, entries), strict=True)]
    assert boosts[0] > boosts[1]


@pytest.mark.parametrize(
    ("text", "title", "artist", "matched"),
    [
        pytest.param("halo", "Halo", "Beyoncé", ("title",), id="title"),
        pytest.param("beyonce", "Halo", "Beyoncé", ("artist",), id="artist"),
        pytest.param("halo beyonce", "Halo", "Beyoncé", ("title", "artist"), id="both"),
        pytest.param("beyonse halo", "Halo", "Beyoncé", ("title", "artist"), id="misspelt"),
        pytest.param("bohemian rap", "Bohemian Rhapsody", "Queen", (), id="beginning that differs"),
        pytest.param("bohemian rhap", "Bohemian Rhapsody", "Queen", ("title",), id="unfinished"),
        pytest.param("ac dc", "Thunderstruck", "AC/DC", ("artist",), id="spaces elsewhere"),
        pytest.param("queen", "Queen", "Queen", ("title", "artist"), id="same name"),
        pytest.param("sad songs", "Sad Songs (Say So Much)", "Elton John", ("title",), id="part of a title"),
        pytest.param("halo effect", "Halo", "Beyoncé", (), id="a word of neither"),
        pytest.param("", "Halo", "Beyoncé", (), id="no text"),
    ],
)
def test_what_matched_is_named(text: str, title: str, artist: str, matched: tuple[str, ...]) -> None:
    """`title` and `artist` are named when the query's words are theirs, and only then."""
    assert AskedWords(words(fold(text))).named_by(words(fold(title)), words(fold(artist))) == matched


def test_sides_that_found_a_hit_are_named() -> None:
    """`text` and `meaning` tell which side of the index found a hit."""
    sides = Sides(meaning=[(0, 0.9), (1, 0.2)], name=[(1, 5.0), (2, 1.0)])
    found = {hit.item.id: hit.matched_by for hit in hits("zz", [Item("0", "A"), Item("1", "B"), Item("2", "C")], sides)}
    assert found == {"0": ("meaning",), "1": ("text", "meaning"), "2": ("text",)}
