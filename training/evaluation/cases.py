"""Query sets with their answers: seeded typos, clean names, real misspellings, text about other things, semantic queries."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.domain import Item
from app.index.readers import Rejected, read_items
from app.lexicon import Lexicon
from app.settings import ROOT
from app.text import fold
from training.noise import corrupt

DEMO = ROOT / "app" / "data" / "demo.csv"
SEMANTIC = ROOT / "tests" / "semantic_queries.jsonl"
SEED = 20_260_001  # training draws from small seeds



@dataclass(frozen=True, slots=True)
class Case:
    """A query, what was meant by it, and the items that answer it."""

    typed: str
    meant: str
    right: frozenset[str] = frozenset()


def demo_items() -> list[Item]:
    return [row for row in read_items(DEMO) if not isinstance(row, Rejected)]


def name_cases(items: list[Item], count: int, edits: int, seed: int) -> list[Case]:
    """Seeded queries for titles, artists and pairs of the demo catalogue, `edits` typing errors each.

    Any item whose title, artist or pair is the meant text answers it.
    """
    rng = random.Random(seed)
    answers: dict[str, set[str]] = {}
    for item in items:
        title, artist = fold(item.title), fold(item.artist)
        for name in {title, artist, f"{title} {artist}", f"{artist} {title}"} - {""}:
            answers.setdefault(name, set()).add(item.id)
    tracks = [item for item in items if item.kind == "track" and any(c.isalpha() for c in fold(item.title))]
    cases: list[Case] = []
    while len(cases) < count:
        item = rng.choice(tracks)
        title, artist = fold(item.title), fold(item.artist)
        meant = rng.choice((title, artist, f"{title} {artist}"))
        typed = corrupt(meant, rng, edits) if edits else meant
        if len(meant) >= 4 and (typed != meant or not edits) and (not edits or typed not in answers):
            cases.append(Case(typed, meant, frozenset(answers[meant])))
    return cases


def real_cases(data: Path) -> list[Case]:
    with (data / "real_misspellings_dev.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [Case(fold(r["typed"]), fold(r["correct"])) for r in rows if r["kind"] != "title_realword"]


def unknown_cases(data: Path, lexicon: Lexicon, count: int) -> list[Case]:
    """Correct queries about things in no catalogue here: playlist titles whose words are at least three letters."""
    with (data / "playlists.tsv").open(encoding="utf-8", newline="") as file:
        names = {fold(r["playlist"]) for r in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    plain = (n for n in names if 4 <= len(n) <= 40 and n.isascii() and n.replace(" ", "").isalpha())
    usable = sorted(n for n in plain if not lexicon.is_name(n))
    return [Case(n, n) for n in random.Random(SEED).sample(usable, min(count, len(usable)))]


def semantic_queries() -> list[dict[str, Any]]:
    """Hand-written descriptions: `query` and the catalogue facts that an answer must have."""
    return [json.loads(line) for line in SEMANTIC.read_text(encoding="utf-8").splitlines()]


def matches(item: Item, wanted: dict[str, Any]) -> bool:
    """Whether an item answers a semantic query: every given key holds, any value of it."""
    year = wanted.get("year")
    if isinstance(year, dict) and not (item.year and year.get("gte", 0) <= item.year <= year.get("lte", 9999)):
        return False
    have = {"kind": {item.kind}, "moods": set(item.moods), "genres": set(item.genres)}
    return all(have[k] & set(wanted[k]) for k in have if k in wanted)
