"""The query sets of each catalogue. Typos are seeded apart from training's; no set shares a seed with another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.domain import Item
from app.lexicon import Lexicon
from training.embedder.pairs import read_items
from training.evaluation import cases
from training.evaluation.cases import SEED, Case
from training.evaluation.names import Names, trained_names

CLEAN, PART, OTHER, RIGHT, REALWORD = "clean name", "part of a name", "other things", "real, spelt right", "real word"
ONE, TWO, REAL = "one edit", "two edits", "real misspelling"


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Cases of one sort: `name` is unique within a catalogue, `group` is what the tables and the traffic mix know it as."""

    name: str
    group: str
    cases: list[Case]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue, its lexicon and the queries asked of it."""

    name: str
    items: list[Item]
    lexicon: Lexicon
    sets: list[QuerySet]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Queries in each set: of typos, of correct names and parts, of correct queries about other things."""

    typos: int = 500
    clean: int = 500
    others: int = 1000


QUICK = Sizes(60, 40, 40)


def demo(data: Path | None, sizes: Sizes) -> Catalogue:
    """The demo catalogue, nearly all of whose names were in training."""
    items = cases.demo_items()
    lexicon = Lexicon(items)
    names = Names(items, lexicon.is_name)
    sets = [
        QuerySet(ONE, ONE, cases.name_cases(names, sizes.typos, 1, SEED)),
        QuerySet(TWO, TWO, cases.name_cases(names, sizes.typos, 2, SEED + 1)),
        QuerySet(CLEAN, CLEAN, cases.name_cases(names, sizes.clean, 0, SEED + 2)),
        QuerySet(PART, PART, cases.part_cases(names, sizes.clean, SEED + 3)),
    ]
    return Catalogue("demo", items, lexicon, sets + (others(data, lexicon, sizes) if data else []))


def as_it_is(data: Path) -> Catalogue:
    """Tracks and podcasts of the data directory and the real misspellings, many of whose right answers it does not hold."""
    items = read_items(data / "catalogue.tsv") + read_items(data / "podcasts.tsv")
    return Catalogue("large, as it is", items, Lexicon(items), [QuerySet(REAL, REAL, cases.real_cases(data))])


def large(data: Path, sizes: Sizes) -> Catalogue:
    """The same completed with what the real misspellings mean: names seen in training apart from names that never were.

    People misspell what a service has. The rows that are added (an artist, or a title with its artist) have no popularity, and
    neither the speller nor the reranker's fit has seen them.
    """
    items = read_items(data / "catalogue.tsv") + read_items(data / "podcasts.tsv") + cases.meant_items(data)
    lexicon = Lexicon(items)
    names = Names([item for item in items if item.kind != "artist"], lexicon.is_name)
    trained = trained_names([*items, *cases.demo_items()])
    sets: list[QuerySet] = []
    for i, which in enumerate(("seen", "unseen")):
        pool = names.among(lambda text, seen=which == "seen": (text in trained) == seen)  # type: ignore[misc]
        for edits, group in ((1, ONE), (2, TWO), (0, CLEAN)):
            count, seed = sizes.typos if edits else sizes.clean, SEED + 10 * (i + 1) + edits
            sets.append(QuerySet(f"{which}, {group}", group, cases.name_cases(pool, count, edits, seed)))
    sets.append(QuerySet(PART, PART, cases.part_cases(names, sizes.clean, SEED + 30)))
    real = cases.real_cases(data)
    sets += others(data, lexicon, sizes)
    sets += [
        QuerySet(REAL, REAL, real),
        QuerySet(RIGHT, RIGHT, cases.spelt_right(real)),
        QuerySet(REALWORD, REALWORD, cases.real_cases(data, realword=True)),
    ]
    return Catalogue("large", items, lexicon, sets)


def others(data: Path, lexicon: Lexicon, sizes: Sizes) -> list[QuerySet]:
    """Correct queries about things not in the catalogue: playlist titles and album titles that name nothing in it."""
    return [
        QuerySet(f"{OTHER}: {what}", OTHER, cases.other_cases(data / file, column, lexicon.is_name, sizes.others))
        for what, file, column in (("playlists", "playlists.tsv", "playlist"), ("albums", "catalogue.tsv", "album"))
    ]
