"""What a team would search with instead, over the same items and the same folded text, ties broken by popularity."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rapidfuzz import fuzz, process

from app.domain import Item
from app.text import fold
from training.evaluation.names import forms

LIMIT = 10
# Recall@10 of 300 seeded queries of each set on the charts with title against artist 1 : 1, 1.5 : 1 and 2 : 1. Words: titles
# 97.7, 98.7, 98.7 %, one typo 82.3, 79.3, 78.7 %, prefixes 85.3, 88.7, 89.3 %. Trigrams: titles 98.7, 99.0, 99.0 %, one typo
# 97.3, 97.3, 96.7 %, prefixes 87.0, 90.0, 90.3 %. With popularity in the rank itself typos and prefixes lost.
TITLE_WEIGHT, ARTIST_WEIGHT, TAGS_WEIGHT = 1.5, 1.0, 1.0


class Baseline(Protocol):
    """A way of searching that is not ours: `name` is its row, `path` its file, where it has one."""

    name: str
    path: Path | None

    async def __call__(self, query: str) -> Sequence[str]:
        """Ids of the items found, best first, `LIMIT` at most."""

    def close(self) -> None:
        """Release the file."""


class FullText:
    """An SQLite FTS5 table of titles, artists and tags (genres, moods, kind, decade), ranked by its BM25.

    Rows are inserted most popular first and equal ranks are ordered by row. Tags in a table of their own, both ranks added up,
    were a little better by names (200 of each on the demo catalogue, trigrams: two typos 95.0 against 93.5 %, prefixes 100
    against 97.5 %) and worse by descriptions (precision 0.29 against 0.34).

    Args:
        tokenizer: FTS5's, ``trigram`` or ``unicode61``.
        path: the database file to create; one that is there is replaced.
    """

    def __init__(self, items: Iterable[Item], tokenizer: str, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.path: Path | None = path
        self._database = sqlite3.connect(path)
        columns = f"id UNINDEXED, title, artist, tags, tokenize='{tokenizer}'"
        self._database.execute(f"CREATE VIRTUAL TABLE items USING fts5({columns})")
        rows = [(item.id, fold(item.title), fold(item.artist), tags(item)) for item in by_popularity(items)]
        self._database.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
        self._database.execute("INSERT INTO items(items) VALUES ('optimize')")
        self._database.commit()
        rank = f"bm25(items, 0, {TITLE_WEIGHT}, {ARTIST_WEIGHT}, {TAGS_WEIGHT})"
        self._select = f"SELECT id FROM items WHERE items MATCH ? ORDER BY {rank}, rowid LIMIT {LIMIT}"

    def find(self, terms: Sequence[str]) -> list[str]:
        """Ids of the items with any of `terms`, FTS5 strings, best first."""
        return [found for (found,) in self._database.execute(self._select, [" OR ".join(terms)])] if terms else []

    def close(self) -> None:
        self._database.close()


class Trigrams(FullText):
    """FTS5's trigram tokenizer, asked for any of the query's trigrams."""

    name = "SQLite FTS5, trigrams"

    def __init__(self, items: Iterable[Item], folder: Path) -> None:
        super().__init__(items, "trigram", folder / "trigrams.db")

    async def __call__(self, query: str) -> Sequence[str]:
        text = fold(query)
        return self.find([quoted(text[at : at + 3]) for at in dict.fromkeys(range(len(text) - 2))])


class Words(FullText):
    """FTS5's words, any of them, the last one as a prefix."""

    name = "SQLite FTS5, words (BM25)"

    def __init__(self, items: Iterable[Item], folder: Path) -> None:
        super().__init__(items, "unicode61", folder / "words.db")

    async def __call__(self, query: str) -> Sequence[str]:
        words = fold(query).split()
        return self.find([*map(quoted, words[:-1]), *(f"{quoted(word)}*" for word in words[-1:])])


class NearestNames:
    """The items of the nearest titles, artists and pairs in either order by `rapidfuzz.fuzz.ratio`."""

    name = "rapidfuzz, all names"
    path: Path | None = None  # nothing is on disk

    def __init__(self, items: Iterable[Item], folder: Path) -> None:
        self._bearers: dict[str, list[str]] = defaultdict(list)
        for item in by_popularity(items):
            for _, text in forms(item):
                self._bearers[text].append(item.id)
        self._names = list(self._bearers)  # `extract` leaves equal scores in this order

    async def __call__(self, query: str) -> Sequence[str]:
        near = process.extract(fold(query), self._names, scorer=fuzz.ratio, limit=LIMIT)
        found = dict.fromkeys(item for name, _, _ in near for item in self._bearers[name])
        return list(found)[:LIMIT]

    def close(self) -> None:
        return None


BASELINES: Mapping[str, Callable[[Sequence[Item], Path], Baseline]] = {b.name: b for b in (Trigrams, Words, NearestNames)}
"""By row; each is made of the items and a folder for its file."""


def by_popularity(items: Iterable[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (-item.popularity, item.id))


def tags(item: Item) -> str:
    """Genres, moods, kind and decade of an item, folded: what it is beside its names."""
    decade = f"{item.year // 10 * 10}s {item.year // 10 % 10}0s" if item.year else ""
    return fold(" ".join((*item.genres, *item.moods, item.kind, decade)))


def quoted(text: str) -> str:
    """An FTS5 string: none of its characters is an operator."""
    return '"' + text.replace('"', '""') + '"'
