"""What the retrieval evaluation asks of a catalogue: names in full, misspelt and half typed, and descriptions."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.domain import Item
from app.text import fold
from training.corpus import read_rows
from training.embedder.describe import Describer
from training.embedder.pairs import held_out
from training.evaluation import cases
from training.evaluation.cases import MAX_TRIES, SEED, Case
from training.evaluation.names import Names

TITLE, ARTIST, PAIR = "clean title", "clean artist", "clean pair"
ONE, TWO, PREFIX = "one typo", "two typos", "prefix"
SEMANTIC, FRESH = "semantic", "semantic, held out"
PLAYLIST, KEPT, MUTE = "playlist title, trained on", "playlist title, held out", "playlist title, a mere name"
PREFIX_SHARE = 0.6  # of a title's characters
MIN_PREFIXED = 5  # characters of a title that is cut
MIN_TRACKS = 5  # of a playlist in the catalogue


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Queries of one sort.

    Attributes:
        name: what the tables call it.
        cases: each with the ids of the items that answer it.
        described: the answers share a description, and how many of the first ten are right counts; otherwise one is enough.
        trained: the queries and their answers are training pairs of the embedder that ships.
    """

    name: str
    cases: list[Case]
    described: bool = False
    trained: bool = False


def name_sets(items: Sequence[Item], names: Names, count: int) -> list[QuerySet]:
    """Names typed right, wrong and in part, at most `count` of each. Any item that bears the name meant is right."""
    titles = names.only("title", "podcast")
    return [
        QuerySet(TITLE, cases.name_cases(titles, count, 0, SEED + 40)),
        QuerySet(ARTIST, cases.name_cases(names.only("artist"), count, 0, SEED + 41)),
        QuerySet(PAIR, cases.name_cases(names.only("pair"), count, 0, SEED + 42)),
        QuerySet(ONE, cases.name_cases(names, count, 1, SEED)),
        QuerySet(TWO, cases.name_cases(names, count, 2, SEED + 1)),
        QuerySet(PREFIX, prefix_cases(items, titles, count, SEED + 43)),
    ]


def prefix_cases(items: Sequence[Item], titles: Names, count: int, seed: int) -> list[Case]:
    """The first 60 % of a title's characters. Only items of that very title are right, whatever else begins like it."""
    rng = random.Random(seed)
    bearers: dict[str, set[str]] = defaultdict(set)
    for item in items:
        bearers[fold(item.title)].add(item.id)
    found: dict[str, Case] = {}
    for _ in range(count * MAX_TRIES):
        if len(found) == count:
            break
        name = titles.draw(rng)
        if len(name.text) >= MIN_PREFIXED:
            typed = name.text[: round(PREFIX_SHARE * len(name.text))].rstrip()
            found.setdefault(name.text, Case(typed, name.text, frozenset(bearers[name.text]), name.kind, fame=name.fame))
    return list(found.values())


def semantic_sets(items: Sequence[Item], count: int | None) -> Iterator[QuerySet]:
    """The hand-written descriptions, at most `count` of each set; every item with the listed facts is right."""
    for name, fresh in ((SEMANTIC, False), (FRESH, True)):
        wanted = cases.semantic_queries(fresh=fresh)[:count]
        asked = [Case(w["query"], w["query"], frozenset(i.id for i in items if cases.matches(i, w))) for w in wanted]
        yield QuerySet(name, asked, described=True)


def playlist_sets(items: Sequence[Item], file: Path, count: int) -> Iterator[QuerySet]:
    """Titles of playlists that hold at least `MIN_TRACKS` of the items, which are right; seeded where there are too many.

    The tenth that is kept from the embedder's training, those that it trains on, which it may know by heart, and of the rest
    the mere names, which only training before 2026-11-27 has drawn, that of the weights that ship included.
    """
    known: dict[tuple[str, str], str] = {(fold(item.title), fold(item.artist)): item.id for item in items if item.artist}
    members: dict[str, set[str]] = defaultdict(set)
    for row in read_rows(file):
        found = known.get((fold(row["title"] or ""), fold(row["artist"] or "")))
        if found and (title := fold(row["playlist"] or "")):
            members[title].add(found)
    tells = Describer(random.Random(SEED)).tells
    for name in (KEPT, PLAYLIST, MUTE):
        usable = sorted(title for title, ids in members.items() if len(ids) >= MIN_TRACKS and _sort(title, tells) == name)
        chosen = sorted(random.Random(SEED + 44).sample(usable, min(count, len(usable))))
        asked = [Case(title, title, frozenset(members[title])) for title in chosen]
        yield QuerySet(name, asked, described=True, trained=name != KEPT)


def _sort(title: str, tells: Callable[[str], bool]) -> str:
    return KEPT if held_out(title) else PLAYLIST if tells(title) else MUTE
