"""What two inference servers are asked when they are compared: queries as listeners type them, the same for the same seed."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from random import Random

from app.text import fold

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MOST_TYPOS = 2
READINGS = 2


@dataclass(frozen=True, slots=True)
class Probe:
    """A folded query, and `READINGS` readings to score beside the model's own: what was meant, and something else."""

    query: str
    readings: tuple[str, ...]


def names(catalogue: Path) -> list[str]:
    """Folded titles, `title artist` and artists of a catalogue in CSV, each once, in its order."""
    with catalogue.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = (fold(text) for row in rows for text in (row["title"], f"{row['title']} {row['artist']}", row["artist"]))
    return list(dict.fromkeys(name for name in found if name))


def probes(catalogue: Path, count: int, seed: int) -> list[Probe]:
    """`count` names of the catalogue with none to `MOST_TYPOS` slips each: a third are typed as they are."""
    random = Random(seed)
    known = names(catalogue)
    chosen = [random.choice(known) for _ in range(count)]
    return [Probe(mistyped(name, random.randint(0, MOST_TYPOS), random), (name, random.choice(known))) for name in chosen]


def mistyped(name: str, slips: int, random: Random) -> str:
    """`name` with as many letters left out, doubled by another, taken for another or swapped with the next; never empty."""
    text = name
    for _ in range(slips):
        at = random.randrange(len(text))
        letter, after = random.choice(LETTERS), text[at + 1 :]
        swapped = text[:at] + after[:1] + text[at] + after[1:]
        text = random.choice((text[:at] + after, text[:at] + letter + text[at:], text[:at] + letter + after, swapped))
        text = text if text.strip() else name
    return fold(text) or name
