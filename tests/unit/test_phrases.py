"""The phrase bank of the embedder's training: complete for the demo catalogue, and nothing in it says two things."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from app.text import fold
from training.embedder.describe import PHRASES, Describer
from training.embedder.pairs import facts_of, read_items

DEMO = Path(__file__).parents[2] / "app/data/demo.csv"
BANK: dict[str, Any] = json.loads(PHRASES.read_text(encoding="utf-8"))
ITEMS = read_items(DEMO)
ENOUGH_ITEMS = 3


def texts(part: object) -> Iterator[str]:
    """All phrases below a part of the bank, whatever its nesting."""
    for below in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from [below] if isinstance(below, str) else texts(below)


@pytest.mark.parametrize("bank", ["genres", "topics"])
def test_common_genres_and_topics_have_phrases(bank: str) -> None:
    """Every genre of the demo's music, and every topic of its podcasts, that several items share can be said otherwise."""
    counts = Counter(g for item in ITEMS if (item.kind == "podcast") == (bank == "topics") for g in item.genres)
    common = {genre for genre, n in counts.items() if n >= ENOUGH_ITEMS}
    assert common
    assert {g for g in common if not (BANK[bank].get(g, {}).get("names") and BANK[bank][g]["queries"])} == set()


@pytest.mark.parametrize("bank", ["moods", "adjectives", "podcast_moods"])
def test_every_mood_has_phrases(bank: str) -> None:
    """The demo's moods all have phrases, and the bank knows no mood that the demo lacks."""
    assert {mood for mood, phrases in BANK[bank].items() if phrases} == {m for item in ITEMS for m in item.moods}


@pytest.mark.parametrize("bank", ["moods", "genres", "topics"])
def test_no_phrase_says_two_things(bank: str) -> None:
    """A phrase listed under two moods, genres or topics would have answers of its own as negatives."""
    said = Counter(phrase for entry in BANK[bank].values() for phrase in texts(entry))
    assert [phrase for phrase, n in said.items() if n > 1] == []


@pytest.mark.parametrize("bank", ["genres", "topics"])
def test_no_genre_is_said_by_the_name_of_another(bank: str) -> None:
    """Other words for a genre are never the plain name of a different one."""
    assert [(g, p) for g, entry in BANK[bank].items() for p in texts(entry) if p in BANK[bank]] == []


def test_phrases_are_as_queries_arrive() -> None:
    """No phrase is empty or changes when folded, and templates have no placeholder but those that are filled."""
    assert [p for p in texts(BANK) if not p.strip() or fold(p) != p] == []
    assert {name for p in texts(BANK) for _, name, _, _ in Formatter().parse(p)} <= {"x", "d", "m", "n", "a", None}


def test_a_description_is_true_of_its_item() -> None:
    """Descriptions are repeatable, ask only for facts that the item has, and leave no placeholder unfilled."""
    facts = [(facts_of(item), item.kind) for item in ITEMS]
    drawn = [[describer.describe(*about) for about in facts] for describer in (Describer(random.Random(s)) for s in (3, 3))]
    assert drawn[0] == drawn[1]
    for (known, kind), found in zip(facts, drawn[0], strict=True):
        assert found is not None
        text, constraint = found
        assert constraint <= known
        assert f"k:{kind}" in constraint
        assert text
        assert "{" not in text
