"""What is embedded and what is hashed: passages, sparse vectors and name keys, all of them part of the index format."""

from __future__ import annotations

import pytest

from app.domain import Item
from app.index.ngrams import Sparse, encode_item_name, encode_item_tags, encode_name, encode_tags
from app.index.passage import passage_text
from app.index.schema import artist_names, name_key, point_id, title_names, to_item, to_payload


def overlap(query: Sparse, document: Sparse) -> float:
    """Share of the query's features that the document has."""
    return len(set(query.indices) & set(document.indices)) / len(query.indices)


@pytest.mark.parametrize(
    ("item", "passage"),
    [
        pytest.param(
            Item("1", "Halo", artist="Beyoncé", year=2008, genres=("Pop", "R&B"), moods=("epic",)),
            "halo by beyonce. pop, r&b. epic. 2000s",
            id="track",
        ),
        pytest.param(
            Item("1", "Up First", "podcast", "NPR", year=2017, genres=("news", "politics")),
            "up first podcast by npr. news, politics",
            id="podcast has no decade",
        ),
        pytest.param(Item("1", "ABBA", "artist", "ABBA", genres=("pop",)), "abba artist. pop", id="artist once"),
        pytest.param(Item("1", "21", "album", "Adele", year=2011), "21 album by adele. 2010s", id="album"),
        pytest.param(Item("1", "Untitled"), "untitled", id="a title alone"),
        pytest.param(Item("1", "x" * 70_000, moods=("sad",)), "x" * 200 + ". sad", id="endless title"),
    ],
)
def test_a_passage_says_what_the_item_is(item: Item, passage: str) -> None:
    """Training and index must see exactly this text: a change of it needs new weights."""
    assert passage_text(item) == passage


def test_hashes_are_the_same_on_every_machine() -> None:
    """Features and point numbers are stored in indices, so they must never change without a new format number."""
    assert encode_name("u2") == Sparse([269344931, 797203682, 1345449751], [1.0, 1.0, 1.0])
    assert encode_tags("sad songs") == Sparse([2681204924, 871231137], [1.0, 1.0])
    assert point_id("track-0001") == 6995809032988930271
    assert encode_name("") == Sparse([], [])


@pytest.mark.parametrize(
    ("query", "title", "artist", "at_least"),
    [
        pytest.param("bohemian rapsody", "Bohemian Rhapsody", "Queen", 0.7, id="letter left out"),
        pytest.param("imagin", "Imagine", "John Lennon", 0.7, id="unfinished"),
        pytest.param("dragla", "Drag-La", "", 1.0, id="punctuation"),
        pytest.param("beyonce halo", "Halo", "Beyoncé", 1.0, id="other order, no accent"),
        pytest.param("!!!", "!!!", "", 1.0, id="nothing but punctuation"),
        pytest.param("夜に駆ける", "夜に駆ける", "YOASOBI", 1.0, id="no spaces"),
    ],
)
def test_a_misspelt_name_keeps_most_of_its_features(query: str, title: str, artist: str, at_least: float) -> None:
    """The sparse side must recognise names through typos, order, accents and punctuation."""
    assert overlap(encode_name(query), encode_item_name(Item("1", title, artist=artist))) >= at_least


def test_the_album_counts_less_than_the_title() -> None:
    """An album's name must not outweigh the same name as a title."""
    [title] = {dict(zip(*encode_item_name(Item("1", "Hope")), strict=True))[i] for i in encode_name("hope").indices}
    [album] = {dict(zip(*encode_item_name(Item("1", "X", album="Hope")), strict=True))[i] for i in encode_name("hope").indices}
    assert 0 < album < title / 2


@pytest.mark.parametrize(
    "query",
    ["sad song", "80s", "1980s", "1984", "synth pop", "synth-pop", "pop music", "rainy days"],
)
def test_tags_meet_the_words_listeners_use(query: str) -> None:
    """Mood, genre, kind and decade words must find their tags, in singular and plural, with and without a hyphen."""
    item = Item("1", "X", year=1984, genres=("synth-pop",), moods=("sad", "rainy day"))
    assert overlap(encode_tags(query), encode_item_tags(item)) == 1.0


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param("AC/DC", "acdc", id="slash"),
        pytest.param("Don’t Stop Me Now", "dontstopmenow", id="apostrophe"),
        pytest.param("Sigur Rós", "sigurros", id="accent"),
        pytest.param("¿Dónde Jugarán las Niñas?", "dondejugaranlasninas", id="inverted mark"),
        pytest.param("!!!", "!!!", id="nothing but punctuation"),
        pytest.param("नमस्ते", "नमस्ते", id="vowel signs stay"),
        pytest.param(" ", "", id="blank"),
    ],
)
def test_names_are_compared_without_spaces_and_punctuation(text: str, key: str) -> None:
    """Spellings that differ in case, accents, spaces or punctuation alone must have one key."""
    assert name_key(text) == key


def test_an_item_answers_to_its_names() -> None:
    """Title and artist in either order, the title without brackets, the artist without its article."""
    names = title_names(Item("1", "Help! (Live)", artist="The Beatles"))
    assert {"helplive", "help", "thebeatleshelp", "helpbeatles", "beatleshelplive"} <= set(names)
    assert artist_names(Item("1", "Help!", artist="The Beatles")) == ["thebeatles", "beatles"]
    assert artist_names(Item("1", "Help!")) == []


def test_a_payload_gives_its_item_back() -> None:
    """Nothing of an item may be lost in the index."""
    item = Item("1", "Halo", "album", "Beyoncé", "Halo", 2008, ("R&B",), ("epic",), 92.5, {"label": "Columbia", "n": [1, None]})
    assert to_item(to_payload(item)) == item
