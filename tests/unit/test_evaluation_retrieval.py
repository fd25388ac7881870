"""The retrieval evaluation: its queries are what they say they are, its baselines find what they are made for."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("symspellpy", reason="the dev extra is not installed")

from app.domain import Item
from app.text import fold
from training.embedder.pairs import held_out
from training.evaluation import cases
from training.evaluation.cases import Case
from training.evaluation.names import Names
from training.evaluation.retrieval import names_of
from training.evaluation.retrieval_baselines import BASELINES, NearestNames, Trigrams, Words
from training.evaluation.retrieval_body import AHEAD, retrieval_section
from training.evaluation.retrieval_completions import completion_latency, prefixes
from training.evaluation.retrieval_measure import Answer, Compared, Way, latency, precision, recall, reciprocal_rank
from training.evaluation.retrieval_memory import stored_items, write_items
from training.evaluation.retrieval_ours import WHOLE
from training.evaluation.retrieval_sets import ARTIST, ONE, PAIR, PREFIX, TITLE, TWO, QuerySet, name_sets, playlist_sets

SONGS = [
    Item("halo", "Halo", artist="Beyoncé", popularity=60),
    Item("halo-2", "Halo", artist="Depeche", popularity=5),
    Item("rhapsody", "Bohemian Rhapsody", artist="Queen", genres=("rock",), year=1975, popularity=80),
    Item("rain", "Set Fire to the Rain", artist="Adele", popularity=70),
    Item("purple", "Purple Rain", artist="Prince", moods=("sad",), popularity=75),
    Item("quotes", 'Say "Hey" & (Don\'t) * Stop', artist="AC/DC"),
]


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return cases.demo_items()


@pytest.fixture(scope="module")
def names(items: list[Item]) -> Names:
    return names_of(items)


def test_each_set_holds_names_of_its_sort_with_every_item_that_bears_them(items: list[Item], names: Names):
    """Titles are titles, artists artists, pairs both; answers are exactly the items of that name; runs do not differ."""
    sets = {s.name: s.cases for s in name_sets(items, names, 40)}
    assert sets == {s.name: s.cases for s in name_sets(items, names, 40)}
    assert {len(found) for found in sets.values()} == {40}
    for case in sets[TITLE]:
        assert case.typed == case.meant
        assert {i.id for i in items if fold(i.title) == case.typed} <= case.right
    for case in sets[ARTIST]:
        assert case.right == {i.id for i in items if case.typed in (fold(i.artist), fold(i.title))}
    for case in sets[PAIR]:
        pairs = {i.id for i in items for t, a in [(fold(i.title), fold(i.artist))] if case.typed in (f"{t} {a}", f"{a} {t}")}
        assert pairs and pairs <= case.right
    for case in sets[ONE] + sets[TWO]:
        assert case.typed != case.meant and case.right and not names.is_name(case.typed)


def test_a_cut_title_is_answered_by_that_very_title_alone(items: list[Item], names: Names):
    """Three fifths of at least five characters; an item whose title only begins like it is wrong."""
    found = next(s.cases for s in name_sets(items, names, 60) if s.name == PREFIX)
    for case in found:
        assert len(case.meant) >= 5 and case.meant.startswith(case.typed)
        assert abs(len(case.typed) - 0.6 * len(case.meant)) <= 1.5  # rounded, without a space at its end
        assert case.right == {i.id for i in items if fold(i.title) == case.meant}


def test_a_playlist_is_asked_by_its_title_where_the_catalogue_has_five_of_its_songs(tmp_path: Path):
    """Songs count once, by folded title and artist; a playlist with four is left out; too many are sampled.

    Titles that were trained on, those that were kept, and those that say nothing of their songs are asked apart.
    """
    rows = [("Rainy Day", song) for song in SONGS[:5]] + [("Few", song) for song in SONGS[:4]] + [("Few", SONGS[0])]
    rows += [(f"{word} {n}", song) for word in ("Summer", "Lorem") for n in range(30) for song in SONGS]
    lines = [f"{name}\t\t{song.artist.upper()}\t{song.title}" for name, song in rows] + ["Rainy Day\t\tNobody\tUnknown"]
    file = tmp_path / "playlists.tsv"
    file.write_text("playlist\tdescription\tartist\ttitle\n" + "\n".join(lines) + "\n", encoding="utf-8")
    kept, trained, mute = sets = list(playlist_sets(SONGS, file, 100))
    assert all(queries.described and queries.cases for queries in sets)
    assert [queries.trained for queries in sets] == [False, True, True]
    assert all(held_out(c.typed) == (queries is kept) for queries in sets for c in queries.cases)
    first_words = [{c.typed.split()[0] for c in queries.cases} for queries in (trained, mute)]
    assert first_words == [{"rainy", "summer"}, {"lorem"}]
    assert {c.typed: c.right for queries in sets for c in queries.cases} == {
        "rainy day": {"halo", "halo-2", "rhapsody", "rain", "purple"},
        **{f"{word} {n}": {song.id for song in SONGS} for word in ("summer", "lorem") for n in range(30)},
    }
    assert [len(queries.cases) for queries in playlist_sets(SONGS, file, 1)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("baseline", "query", "first"),
    [
        pytest.param(Trigrams, "bohemain rapsody", "rhapsody", id="trigrams-through-typos"),
        pytest.param(Trigrams, "purple ra", "purple", id="trigrams-prefix"),
        pytest.param(Words, "rain set fire", "rain", id="words-any-order"),
        pytest.param(Words, "bohemian rhap", "rhapsody", id="words-last-is-a-prefix"),
        pytest.param(Words, "sad prin", "purple", id="words-tags"),
        pytest.param(NearestNames, "quen bohemian rapsody", "rhapsody", id="rapidfuzz-pair-artist-first"),
        pytest.param(NearestNames, "Béyonce", "halo", id="rapidfuzz-folded"),
        *(pytest.param(b, "halo", "halo", id=f"{b.__name__}-the-popular-first") for b in (Trigrams, Words, NearestNames)),
        *(pytest.param(b, SONGS[5].title, "quotes", id=f"{b.__name__}-marks") for b in (Trigrams, Words, NearestNames)),
    ],
)
async def test_a_baseline_finds_what_it_is_made_for(baseline: type, query: str, first: str, tmp_path: Path):
    """Its first hit is the item meant; of two that are as near, the popular one; marks are text and no operators."""
    made = baseline(SONGS[::-1], tmp_path)
    assert (await made(query))[0] == first
    made.close()


@pytest.mark.parametrize("query", ["", "a", '"', "*", "&", "zzzzqqqq", "OR AND NOT NEAR("])
async def test_a_baseline_bears_any_query(query: str, tmp_path: Path):
    """Whatever is typed gives ids or nothing, never an error, and at most ten."""
    many = [Item(str(n), f"Song {n}", artist="Or And Not Near") for n in range(40)]
    for make in BASELINES.values():
        made = make(many, tmp_path)
        found = list(await made(query))
        assert len(found) <= 10 and len(set(found)) == len(found)
        made.close()


def answered(*found: tuple[str, ...], right: str = "a") -> list[Answer]:
    return [Answer(Case("q", "q", frozenset(right)), ids, float(ms)) for ms, ids in enumerate(found, 1)]


def test_what_is_counted():
    """First place, any of the first ten, 1/place, and the share of right ones with empty places wrong."""
    answers = answered(("a", "b"), ("b", "a"), (), ("b", "c"))
    assert (recall(answers, 1), recall(answers), reciprocal_rank(answers)) == (0.25, 0.5, 0.375)
    assert precision(answered(("a", "x", "b"), ("x",), right="ab")) == pytest.approx(0.1)
    assert latency(answered(*[("a",)] * 11)) == (6.0, 10.0)


def test_the_section_says_how_far_ahead_of_the_best_baseline_the_search_is(tmp_path: Path):
    """The margin is against the best baseline of each column, not against our own rows."""

    async def find(query: str) -> list[str]:
        return []

    sets = [QuerySet(TITLE, [Case("q", "q")] * 4), QuerySet("semantic", [Case("q", "q")] * 4, described=True)]
    hit, miss = ("a",), ("b",)
    answers = {
        "fused": answered(hit, hit, hit, hit),
        WHOLE: answered(hit, hit, hit, miss),
        "worse": answered(miss, miss, miss, miss),
        "better": answered(hit, hit, miss, miss),
    }
    ways = [Way(name, find, 1.5, 2.5, ours=name in ("fused", WHOLE)) for name in answers]
    sets.append(QuerySet(PREFIX, []))  # as a catalogue without names of that kind has it
    found = {name: {s.name: of[: len(s.cases)] for s in sets} for name, of in answers.items()}
    one = Compared("charts", SONGS, sets, ways, found)
    text = retrieval_section([one], "embedder 1 MiB")
    assert "### Charts: 6 items" in text and "embedder 1 MiB" in text
    assert f"| {AHEAD} | +25.0 |  |" in text  # nothing is ahead where nothing was asked
    assert f"| {WHOLE} | 75.0% / 0.75 |" in text
    assert f"| {WHOLE} | 0.075 | 75.0% |" in text
    assert f"| {WHOLE} | 2.5 | 4.0 | 1.5 | 2.5 |" in text


def test_a_stored_catalogue_is_read_back_as_it_was(items: list[Item], tmp_path: Path):
    """What the memory is measured on are the same items, those with marks and lists too."""
    write_items([*SONGS, *items[:50]], tmp_path / "c.jsonl")
    read = list(stored_items(tmp_path / "c.jsonl"))
    assert [i for i in read if not i.extra] == read
    assert read[: len(SONGS)] == SONGS and [i.id for i in read[len(SONGS) :]] == [i.id for i in items[:50]]


def test_completions_are_timed_over_beginnings_of_names() -> None:
    """Beginnings have one to twelve characters, every third is mistyped and the others are as in the catalogue."""
    items = [Item("1", "Bohemian Rhapsody", artist="Queen"), Item("2", "Thunderstruck", artist="AC/DC")]
    typed = prefixes(items, 300)
    names = [fold(name) for item in items for name in (item.title, item.artist)]
    right = [any(name.startswith(prefix) for name in names) for prefix in typed]
    assert all(right[1::3]) and all(right[2::3]) and sum(right[::3]) < 30
    assert all(0 < len(prefix) <= 12 for prefix in typed)
    p50, p90, p99 = completion_latency(items, 20)
    assert 0 < p50 <= p90 <= p99
