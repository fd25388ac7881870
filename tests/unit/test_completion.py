"""As-you-type completions: prefixes of names and of their later words, a typo forgiven, popular names first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from app.completion import MAX_LIMIT, READ, Completion, Completions, comparable, spellings
from app.domain import Item

CATALOGUE = (
    Item("billie", "Billie Jean", artist="Michael Jackson", album="Thriller", popularity=98.0),
    Item("genie", "The Jean Genie", artist="David Bowie", popularity=70.0),
    Item("bill", "Bills, Bills, Bills", artist="Destiny's Child", popularity=80.0),
    Item("eilish", "Billie Eilish", "artist", "Billie Eilish", popularity=97.0),
    Item("teen", "Smells Like Teen Spirit", artist="Nirvana", album="Nevermind", popularity=97.0),
    Item("halo", "Halo", artist="Beyoncé", popularity=90.0),
    Item("halo2", "HALO", artist="Someone Else", popularity=10.0),
    Item("haloes", "Halos and Horns", artist="Dolly Parton", popularity=95.0),
    Item("bohemian", "Bohemian Rhapsody", artist="Queen", popularity=96.0),
    Item("thunder", "Thunderstruck", artist="AC/DC", popularity=92.0),
    Item("strange", "People Are Strange", artist="The Doors", popularity=60.0),
    Item("bright", "Mr. Brightside", artist="The Killers", popularity=91.0),
    Item("signs", "Heart of Glass 😀", artist="!!!", popularity=5.0),
    Item("daily", "The Daily", "podcast", "The New York Times", popularity=80.0),
    Item("duvet", "Дорогой длинною", artist="Bôa", popularity=3.0),
    Item("blank", "…", artist=" ", popularity=1.0),
)
LIMIT = MAX_LIMIT


@pytest.fixture(scope="module")
def completions() -> Completions:
    return Completions(CATALOGUE)


def texts(completions: Completions, typed: str, limit: int = LIMIT) -> list[str]:
    return [completion.text for completion in completions.complete(typed, limit)]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        pytest.param("bil", ["Billie Jean", "Billie Eilish", "Bills, Bills, Bills"], id="popular names first"),
        pytest.param("jean", ["Billie Jean", "The Jean Genie"], id="a later word"),
        pytest.param("BILLIE J", ["Billie Jean"], id="case"),
        pytest.param("  billie   je ", ["Billie Jean"], id="spaces"),
        pytest.param("beyonc", ["Beyoncé"], id="diacritics not typed"),
        pytest.param("BÉYÖN", ["Beyoncé"], id="diacritics typed elsewhere"),
        pytest.param("halo", ["Halo", "Halos and Horns"], id="a whole name before a more popular longer one"),
        pytest.param("mr bright", ["Mr. Brightside"], id="punctuation not typed"),
        pytest.param("mr.b", ["Mr. Brightside"], id="punctuation without its space"),
        pytest.param("ac/d", ["AC/DC"], id="a sign typed"),
        pytest.param("acdc", ["AC/DC"], id="a sign left out"),
        pytest.param("destinys", ["Destiny's Child"], id="apostrophe left out"),
        pytest.param("!!", ["!!!"], id="punctuation alone"),
        pytest.param("😀", ["Heart of Glass 😀"], id="emoji"),
        pytest.param("дор", ["Дорогой длинною"], id="another script"),
        pytest.param("the d", ["The Daily", "The Doors"], id="podcast and artist"),
    ],
)
def test_what_begins_so_is_offered(completions: Completions, typed: str, first: list[str]) -> None:
    """Names that begin so, or have a word that does, come in the catalogue's spelling, the likeliest first."""
    assert texts(completions, typed)[: len(first)] == first


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        pytest.param("bile", "Billie Jean", id="four letters, one left out"),
        pytest.param("bilie j", "Billie Jean", id="a typo in an earlier word"),
        pytest.param("mchael", "Michael Jackson", id="a letter left out"),
        pytest.param("thunderrst", "Thunderstruck", id="a letter too many, late in a long word"),
        pytest.param("nivrana", "Nirvana", id="letters swapped"),
        pytest.param("xirvana", "Nirvana", id="the first letter"),
        pytest.param("bohemain rapsody", "Bohemian Rhapsody", id="two typos in eight letters and more"),
        pytest.param("spirti", "Smells Like Teen Spirit", id="a typo in a later word"),
        pytest.param("teh daily", "The Daily", id="a typo in a word of three letters"),
    ],
)
def test_a_typo_is_forgiven(completions: Completions, typed: str, meant: str) -> None:
    """One wrong letter from four characters on, two from eight on, still find the name."""
    assert meant in texts(completions, typed, 8)


@pytest.mark.parametrize("typed", ["blo", "jax", "hlo", "nir v"])
def test_short_texts_are_taken_as_typed(completions: Completions, typed: str) -> None:
    """Under four characters nothing but a true beginning is offered, and later words still have to match."""
    assert texts(completions, typed) == []


def test_true_beginnings_come_before_typos(completions: Completions) -> None:
    """A name that begins as typed is offered before a far more popular one that is a typo away."""
    found = texts(Completions([*CATALOGUE, Item("bilie", "Bilie Holliday", popularity=0.0)]), "bilie")
    assert found[:2] == ["Bilie Holliday", "Billie Jean"]


@pytest.mark.parametrize(
    ("typed", "begins"),
    [("bil", True), ("Billie Jean", True), ("acdc", True), ("jean", False), ("bilie", False), ("", False), ("!", True)],
)
def test_what_begins_a_name(completions: Completions, typed: str, begins: bool) -> None:
    """The first part of a name or all of it, in any of its spellings; neither a later word nor one with a typo."""
    assert completions.begins(typed) is begins


def test_names_that_are_gone_begin_no_more() -> None:
    """A name whose last row was removed is none, and one that was added begins at once."""
    completions = Completions(CATALOGUE)
    completions.update([Item("new", "Zzyzx Rd", artist="Stone Sour")], [CATALOGUE[0]])
    assert [completions.begins(typed) for typed in ("billie j", "billie", "zzyz")] == [False, True, True]


def test_a_name_is_offered_once_for_each_kind() -> None:
    """The same name in one kind is one completion in its most popular spelling; another kind is another."""
    rows = [
        Item("1", "HALO", artist="Someone Else", popularity=10.0),
        Item("2", "Halo", artist="Beyoncé", popularity=90.0),
        Item("3", "Hälo", "album", "Beyoncé", popularity=20.0),
    ]
    assert Completions(rows).complete("hal", LIMIT) == [
        Completion("track", "Halo", "Beyoncé"),
        Completion("album", "Hälo", "Beyoncé"),
    ]


def test_an_artist_of_many_songs_comes_first() -> None:
    """Where popularity is unknown, a name of many rows comes before a name of one."""
    songs = [Item(f"{i}", f"Song {i}", artist="Queen") for i in range(8)]
    assert texts(Completions([Item("q", "Quartz"), *songs]), "qu") == ["Queen", "Quartz"]


def test_a_common_prefix_of_many_names_has_the_most_popular() -> None:
    """Where more names begin so than are read, the stored best are those that reading all would find."""
    rows = [Item(str(i), f"Love Song {i:05d}", popularity=(i * 37 % 5003) / 51) for i in range(READ + 900)]
    completions = Completions(rows)
    best = [item.title for item in sorted(rows, key=lambda item: -item.popularity)]
    for typed in ("l", "lo", "love", "love song", "love song 0", "s", "song"):
        assert texts(completions, typed, 8) == best[:8]


@pytest.mark.parametrize(
    "typed", ["", " ", "\x00", "zzzzqqqq", "x" * 256, "a " * 128, "\u0301" * 256, "\ufdfa" * 256, "\ud800"]
)
@pytest.mark.parametrize("catalogue", [CATALOGUE, ()], ids=["catalogue", "empty catalogue"])
def test_anything_may_be_typed(catalogue: tuple[Item, ...], typed: str) -> None:
    """What no name is near has no completions, whatever it is."""
    assert Completions(catalogue).complete(typed, LIMIT) == []


NAMES = sorted({text for item in CATALOGUE for text in (item.title, item.artist) if text != "The New York Times"})
KNOWN = Completions(CATALOGUE)


@st.composite
def typed_texts(draw: st.DrawFn) -> str:
    """The beginning of a name from one of its words on, with up to three letters changed."""
    words = draw(st.sampled_from(NAMES)).split()
    text = " ".join(words[draw(st.integers(0, len(words))) :])
    text = text[: draw(st.integers(0, len(text)))]
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.text(max_size=1)) + text[place + draw(st.integers(0, 1)) :]
    return text


@given(st.one_of(typed_texts(), st.text(max_size=40)), st.integers(1, MAX_LIMIT))
def test_every_completion_begins_as_typed_but_for_the_typos(typed: str, limit: int) -> None:
    """All that is offered has a word from which on it reads as typed: exactly under four characters, else within two edits."""
    found = KNOWN.complete(typed, limit)
    asked = comparable(typed)
    allowed = 0 if len(asked) < 4 else 1 if len(asked) < 8 else 2
    assert len(found) == len(set(found)) <= limit
    for completion in found:
        assert min(distance(asked, tail) for tail in tails(completion.text)) <= allowed


@given(typed_texts())
def test_no_true_beginning_is_missed(typed: str) -> None:
    """Every name with a word from which on it reads as typed is among the completions."""
    asked = comparable(typed)
    expected = {name for name in NAMES if asked and any(tail.startswith(asked) for tail in tails(name))} - {"HALO"}
    found = {completion.text for completion in KNOWN.complete(typed, MAX_LIMIT)}
    assert expected <= found or len(expected) > MAX_LIMIT


def tails(name: str) -> list[str]:
    """A name in each of its spellings from each of its words on."""
    spelt = [spelling.split(" ") for spelling in spellings(name)]
    return [" ".join(words[i:]) for words in spelt for i in range(len(words))]


def distance(typed: str, tail: str) -> int:
    """Edits from `typed` to the nearest beginning of `tail`."""
    return min(OSA.distance(typed, tail[:size]) for size in range(len(tail) + 1))
