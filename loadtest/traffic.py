"""What is typed into a search bar, seeded: a query log by Zipf's law, and one in which no query comes twice.

The standard library alone: Locust runs this in an image of its own, without Searchbar installed.
"""

from __future__ import annotations

import csv
import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

CATALOGUE = Path(__file__).resolve().parent.parent / "app" / "data" / "demo.csv"
CLEAN, TYPO, PREFIX = "clean", "typo", "prefix"
SHARES = {CLEAN: 0.65, TYPO: 0.20, PREFIX: 0.15}
NEIGHBOURS = {"a": "sq", "e": "wr", "i": "uo", "o": "ip", "u": "yi", "n": "bm", "s": "ad", "t": "ry", "r": "et", "l": "k"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Query(NamedTuple):
    """A query and how it was typed: clean, typo or prefix."""

    text: str
    sort: str


def names(catalogue: Path = CATALOGUE) -> list[str]:
    """Titles, artists and pairs of both in lower case, most popular first, each once."""
    with catalogue.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: -float(row.get("popularity") or 0))
    found: dict[str, None] = {}
    for row in rows:
        title, artist = row["title"].lower(), (row.get("artist") or "").lower()
        found.update(dict.fromkeys(name for name in (title, artist, f"{title} {artist}".strip()) if len(name) > 3))
    return list(found)


def zipf(known: list[str], seed: int, exponent: float = 1.0) -> Iterator[Query]:
    """Queries without end: the name of rank r is meant with probability ∝ 1/r^`exponent`, and typed as `SHARES` say.

    Popular names are meant again and again; a slip is drawn anew each time, so that typos seldom repeat.
    """
    rng = random.Random(seed)
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(len(known))))
    while True:
        yield typed(rng.choices(known, cum_weights=weights)[0], rng)


def distinct(known: list[str], seed: int) -> Iterator[Query]:
    """Queries none of which equals an earlier one, spaces, case and accents aside: no cache can answer."""
    rng = random.Random(seed)
    words = sorted({word for name in known for word in name.split()})
    seen: set[str] = set()
    while True:
        name = rng.choice(known)
        query = typed(f"{name} {rng.choice(words)}" if rng.random() < 0.5 else name, rng)
        key = plain(query.text)
        if key and key not in seen:
            seen.add(key)
            yield query


def typed(name: str, rng: random.Random) -> Query:
    """`name` as somebody types it: whole, with one slip, or its beginning."""
    sort = rng.choices(list(SHARES), list(SHARES.values()))[0]
    if sort == TYPO:
        return Query(slip(name, rng), sort)
    if sort == PREFIX and len(name) > 5:
        return Query(name[: rng.randrange(4, len(name))].strip(), sort)
    return Query(name, CLEAN)


def slip(text: str, rng: random.Random) -> str:
    """`text` with a letter left out, doubled, swapped with the next or hit beside its key."""
    at = rng.randrange(1, len(text))
    letter = text[at]
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + letter + text[at:]
    if kind == 2 and at + 1 < len(text):
        return text[:at] + text[at + 1] + letter + text[at + 2 :]
    return text[:at] + rng.choice(NEIGHBOURS.get(letter, LETTERS)) + text[at + 1 :]


def plain(text: str) -> str:
    """What is left of `text` without accents, case and repeated spaces."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).split())


def makeup(log: Iterable[Query]) -> str:
    """One line on a log: its length, how many queries it has but once, and how they are typed."""
    queries = list(log)
    sorts = Counter(query.sort for query in queries)
    often = Counter(plain(query.text) for query in queries)
    shares = ", ".join(f"{100 * sorts[sort] / max(len(queries), 1):.0f} % {sort}" for sort in SHARES)
    return f"{len(queries):,} queries, {len(often):,} different ({shares})"
