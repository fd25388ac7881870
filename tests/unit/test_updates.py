"""Lexicon and completions changed in place against those built anew of the rows that are left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.completion import MAX_LIMIT, Completion, Completions
from app.deletes import SymmetricDeletes
from app.domain import KINDS, Item
from app.lexicon import Lexicon
from app.lookup import NgramLookup

WORDS = (
    "halo",
    "hallo",
    "helo",
    "hola",
    "a",
    "AC/DC",
    "Beyoncé",
    "thunderstruck",
    "thunderstuck",
    "blink-182",
    "the",
    "!!!",
    "é",
)
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
ITEMS = st.builds(
    Item,
    id=st.just(""),
    title=NAMES,
    kind=st.sampled_from(KINDS),
    artist=st.one_of(st.just(""), NAMES),
    album=st.one_of(st.just(""), NAMES),
    genres=st.one_of(st.just(()), st.tuples(st.sampled_from(("rock", "halo")))),
    popularity=st.one_of(st.sampled_from((0.0, 33.3, 100.0)), st.floats(0.0, 100.0)),
)
QUERIES = (
    "halo", "hallo", "hlo", "thunderstruk", "a halo", "halo a", "beyonce halo", "bayonce helo", "acdc", "ac/dc", "rokc",
    "the thunder struck", "thehalo", "blink 182", "!!!", "haloo beyonc",
)  # fmt: skip
TYPED = (
    "h",
    "ha",
    "hal",
    "halo",
    "halo h",
    "t",
    "thun",
    "thundre",
    "the thunders",
    "ac",
    "acd",
    "beyonc",
    "byon",
    "a",
    "!!",
    "b",
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Item], list[tuple[list[Item], list[Item]]]]:
    """Rows at the start, and then what is added and what removed at a time: rows may come back, change and be twice."""
    start = draw(st.lists(ITEMS, max_size=6))
    left, steps = list(start), []
    for _ in range(draw(st.integers(1, 5))):
        removed = [left.pop(draw(st.integers(0, len(left) - 1))) for _ in range(draw(st.integers(0, len(left))))]
        added = draw(st.lists(ITEMS, max_size=4))
        if removed and draw(st.booleans()):
            added += [draw(st.sampled_from([removed[0], replace(removed[0], popularity=50.0)]))]
        left += added
        steps.append((added, removed))
    return start, steps


def after(start: list[Item], steps: list[tuple[list[Item], list[Item]]]) -> list[Item]:
    left = list(start)
    for added, removed in steps:
        left += added
        for item in removed:
            left.remove(item)
    return left


@settings(max_examples=60, deadline=None)
@given(histories())
def test_a_changed_lexicon_is_the_one_built_anew(history: tuple[list[Item], list[tuple[list[Item], list[Item]]]]) -> None:
    """After any changes names, fames, rarities and candidates are those of a lexicon of the rows that are left."""
    start, steps = history
    changed, anew = Lexicon(start), Lexicon(after(start, steps))
    for added, removed in steps:
        changed.update(added, removed)
    assert dict(changed.names) == dict(anew.names)
    assert changed.words == anew.words
    for query in QUERIES:
        assert changed.is_name(query) is anew.is_name(query)
        assert changed.rarity(query) == pytest.approx(anew.rarity(query), abs=1e-9)
        assert changed.word_fame(query) == pytest.approx(anew.word_fame(query), abs=1e-9)
        for limit in (5, 20):
            assert {c.text for c in changed.candidates(query, limit)} == {c.text for c in anew.candidates(query, limit)}
        assert changed.rivals(query, 5) == anew.rivals(query, 5)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_changed_completions_are_those_built_anew(history: tuple[list[Item], list[tuple[list[Item], list[Item]]]]) -> None:
    """After any changes each text has the completions, in their order, that the rows that are left give it."""
    start, steps = history
    changed, anew = Completions(start), Completions(after(start, steps))
    for added, removed in steps:
        changed.update(added, removed)
    assert len(changed) == len(anew)
    for typed in TYPED:
        for limit in (3, MAX_LIMIT):
            assert changed.complete(typed, limit) == anew.complete(typed, limit)


def test_one_row_after_the_other() -> None:
    """Hundreds of single changes leave few parts to ask, and the answers are those of a catalogue built anew."""
    rows = [Item(str(i), f"Love Song {i:03d}", artist=f"Band {i % 7}", popularity=float(i * 37 % 101)) for i in range(300)]
    changed = Completions(rows[:50])
    for row in rows[50:]:
        changed.update([row], [])
    for row in rows[:250:2]:
        changed.update([], [row])
    anew = Completions([row for i, row in enumerate(rows) if i % 2 or i >= 250])
    for typed in ("l", "song 1", "band", "band 3", "lvoe song 29", "love song 101"):
        assert changed.complete(typed, MAX_LIMIT) == anew.complete(typed, MAX_LIMIT)
    assert len(changed._parts) <= 8


def test_the_stored_best_of_a_common_prefix_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more names begin so than are read, removed ones make room for the next best, and new ones take their place."""
    monkeypatch.setattr("app.completion_part.READ", 40)
    rows = [Item(str(i), f"Love {i:03d}", popularity=i / 4) for i in range(200)]
    completions = Completions(rows)
    best = [Completion("track", row.title) for row in rows[::-1]]
    assert completions.complete("lo", 5) == best[:5]
    completions.update([], rows[-30:])
    assert completions.complete("lo", 5) == best[30:35]
    completions.update(rows[-1:], [])
    assert completions.complete("lo", 5) == [best[0], *best[30:34]]
    assert completions.complete("love 199", 1) == best[:1]


def test_lookups_forget_and_remember() -> None:
    """A removed word or name is not found, also when it was added later; added again it is, once."""
    words, names = SymmetricDeletes(["halo"]), NgramLookup(["halo", "hallo ween"])
    for lookup in (words, names):
        lookup.update(["hola", "halos"], [])
        lookup.update([], ["halo", "halos"])
    assert words.near("hal", 2) == [("hola", 2)]
    assert (names.nearest("halo", 5), names.nearest("hola", 5)) == (["hallo ween"], ["hola"])
    for lookup in (words, names):
        lookup.update(["halo", "halos"], ["hola"])
    assert sorted(words.near("hal", 2)) == [("halo", 1), ("halos", 2)]
    assert names.nearest("halo", 5)[0] == "halo"
    assert sorted(names.nearest("halo", 5)) == ["hallo ween", "halo", "halos"]
