"""Queries with their answers: seeded typos, clean names, real misspellings, text about other things, semantic queries."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.domain import Item
from app.index.readers import Rejected, read_items
from app.settings import ROOT
from app.text import fold
from training.corpus import for_evaluation
from training.evaluation.names import Names
from training.noise import corrupt

DEMO = ROOT / "app" / "data" / "demo.csv"
SEMANTIC = ROOT / "tests" / "semantic_queries.jsonl"
SEMANTIC_FRESH = ROOT / "tests" / "semantic_queries_fresh.jsonl"  # written without sight of the embedder's phrases
SEED = 20_260_001  # training draws from small seeds
MAX_TRIES = 50  # draws for each case wanted


@dataclass(frozen=True, slots=True)
class Case:
    """A query, what was meant by it, and the items that answer it.

    Attributes:
        typed: what the speller is asked, folded.
        meant: the right reading, folded; equal to `typed` for a correct query.
        kind: artist, title, pair or podcast; of a real misspelling, what its file says.
        edits: typing errors that `training.noise` was asked for; 0 for correct queries and real misspellings.
        fame: head, middle or tail (see `Names`), empty where nothing is known.
        accented: the name is written with a letter outside ASCII.
    """

    typed: str
    meant: str
    right: frozenset[str] = frozenset()
    kind: str = ""
    edits: int = 0
    fame: str = ""
    accented: bool = False


def demo_items() -> list[Item]:
    return [row for row in read_items(DEMO) if not isinstance(row, Rejected)]


def name_cases(names: Names, count: int, edits: int, seed: int) -> list[Case]:
    """Seeded queries for titles, artists, pairs and podcasts, `edits` typing errors each; no name is drawn twice.

    A typo that is a name itself is drawn again: nobody could tell what was meant. Fewer than `count` come back where the
    catalogue has fewer names.
    """
    rng = random.Random(seed)
    cases: dict[str, Case] = {}
    for _ in range(count * MAX_TRIES):
        if len(cases) == count:
            break
        name = names.draw(rng)
        if name.text in cases:
            continue
        typed = corrupt(name.text, rng, edits) if edits else name.text
        if not edits or (typed != name.text and not names.is_name(typed)):
            right = names.answers(name.text)
            cases[name.text] = Case(typed, name.text, right, name.kind, edits, name.fame, name.accented)
    return list(cases.values())


def part_cases(names: Names, count: int, seed: int) -> list[Case]:
    """Correct queries that are the first or the last words of a name and no name themselves: no rule protects them."""
    rng = random.Random(seed)
    cases: dict[str, Case] = {}
    for _ in range(count * MAX_TRIES):
        if len(cases) == count:
            break
        name = names.draw(rng)
        words = name.text.split()
        if len(words) < 2:
            continue
        cut = rng.randint(1, len(words) - 1)
        part = " ".join(words[:cut] if rng.random() < 0.7 else words[cut:])
        if len(part) >= 4 and any(c.isalpha() for c in part) and not names.is_name(part):
            cases[part] = Case(part, part, kind=name.kind, fame=name.fame, accented=name.accented)
    return list(cases.values())


def real_rows(data: Path) -> list[dict[str, str]]:
    with (data / "real_misspellings_dev.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def real_cases(data: Path, *, realword: bool = False) -> list[Case]:
    """What people typed for what they meant. `realword`: the wrong but existing words instead, which nobody should correct."""
    chosen = [r for r in real_rows(data) if (r["kind"] == "title_realword") == realword]
    return [Case(fold(r["typed"]), fold(r["correct"]), kind=r["kind"]) for r in chosen]


def meant_items(data: Path) -> list[Item]:
    """Catalogue rows for what the real misspellings mean, where their file says what it is: artists, titles with artist."""
    items = []
    for n, row in enumerate(real_rows(data)):
        if row["kind"] in ("artist", "artist_token"):
            items.append(Item(f"meant-{n}", row["artist_context"] or row["correct"], "artist"))
        elif row["kind"].startswith("title"):
            items.append(Item(f"meant-{n}", row["correct"], artist=row["artist_context"]))
    return items


def spelt_right(cases: Iterable[Case]) -> list[Case]:
    """What was meant by `cases`, each once, as queries: in the catalogue or not, they must stay."""
    return list({case.meant: replace(case, typed=case.meant) for case in cases}.values())


def other_cases(file: Path, column: str, known: Callable[[str], bool], count: int) -> list[Case]:
    """Correct queries about things that are no catalogue name: values of a column, 4 to 40 ASCII characters with letters.

    Only the half that the reranker's fit leaves alone.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        texts = {fold(r[column] or "") for r in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)}
    plain = (t for t in texts if 4 <= len(t) <= 40 and t.isascii() and sum(c.isalpha() for c in t) >= 3)
    usable = sorted(t for t in plain if for_evaluation(t) and not known(t))
    return [Case(t, t) for t in random.Random(SEED).sample(usable, min(count, len(usable)))]


def semantic_queries(fresh: bool = False) -> list[dict[str, Any]]:
    """Hand-written descriptions: `query` and the catalogue facts that an answer must have.

    `fresh`: the held-out set, which nothing may be trained on or chosen by.
    """
    file = SEMANTIC_FRESH if fresh else SEMANTIC
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def matches(item: Item, wanted: dict[str, Any]) -> bool:
    """Whether an item answers a semantic query: every given key holds, any value of it."""
    year = wanted.get("year")
    if isinstance(year, dict) and not (item.year and year.get("gte", 0) <= item.year <= year.get("lte", 9999)):
        return False
    have: dict[str, set[str]] = {"kind": {item.kind}, "moods": set(item.moods), "genres": set(item.genres)}
    return all(have[k] & set(wanted[k]) for k in have if k in wanted)
