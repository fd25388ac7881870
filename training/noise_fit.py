"""Fit the noise to real misspellings: `searchbar train noise --pairs FILE`.

1. The channel's confusion tables are counted on aligned pairs; the alignment uses the tables of the round before (hard
   expectation maximisation, starting from unit costs).
2. The weights of the kinds are scaled until text misspelt by the noise shows the kinds in the shares of the real pairs, as
   `training.edits.kinds` sees both (iterative proportional fitting).

A pair file is TSV with the columns `typed` or `misspelling` and `correct`. The first file's shares of kinds count as much as
all the others together, since it is the one that resembles the traffic; confusions are counted on all files.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import get_args

from rapidfuzz.distance import OSA
from rich.progress import track

from app.channel import ALPHABET, Channel, Kind, symbol
from app.errors import InvalidInput
from app.text import fold
from training.edits import KINDS, NEIGHBOURS, kinds
from training.noise import Noise

Pair = tuple[str, str]  # typed, meant
MAX_DISTANCE = 3
MAX_SHARE = 0.4  # of the letters; more is a different word rather than a misspelling
NEIGHBOUR_PRIOR = 4.0  # made-up counts for keys that touch: the general pairs are partly handwritten
PRIOR = 0.25
STEADY = 200.0  # made-up chances: what few pairs could show stays unlikely
# Pairs of single words cannot show these; a name has spaces to lose.
FLOORS = {"space dropped": 0.015, "space added": 0.010, "and/&": 0.002}
LEAST, MOST = 0.002, 50.0  # a weight's floor, and its cap in times the share wanted: no kind takes over that names cannot show
GENERATED = 30_000
ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Shares:
    """What pairs look like: share of each kind, of one, two, three errors, and of errors on the first letter of a word."""

    kinds: dict[str, float]
    edits: list[float]
    first_letter: float


def read_pairs(path: Path) -> list[Pair]:
    """Folded pairs near enough to be misspellings.

    Raises:
        InvalidInput: columns are missing or no pair is usable.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        column = next((c for c in ("typed", "misspelling") if c in (rows.fieldnames or ())), None)
        if column is None or "correct" not in (rows.fieldnames or ()):
            raise InvalidInput(f"{path}: needs the columns `correct` and `typed` or `misspelling`")
        pairs = [(fold(row[column] or ""), fold(row["correct"] or "")) for row in rows if row.get("kind") != "title_realword"]
    usable = [(t, m) for t, m in pairs if t and 0 < OSA.distance(t, m) <= min(MAX_DISTANCE, MAX_SHARE * len(m))]
    if not usable:
        raise InvalidInput(f"{path}: no pair is within {MAX_DISTANCE} edits of another")
    return usable


def fit_channel(pairs: list[Pair], rounds: int = 3) -> Channel:
    """Confusion tables from aligned pairs."""
    chars: Counter[str] = Counter()
    for _, meant in pairs:
        marked = " " + "".join(map(symbol, meant))
        chars.update(marked)
        chars.update(a + b for a, b in pairwise(marked))
    flat = dict.fromkeys((a + b for a in ALPHABET for b in ALPHABET), 3.0)
    channel = Channel(flat, flat, flat, flat)
    for _ in track(range(rounds), description="aligning", transient=True):
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in ("substitute", "delete", "insert", "transpose")}
        for typed, meant in pairs:
            for e in channel.edits(typed, meant):
                key = {
                    "substitute": symbol(e.meant[:1]) + symbol(e.typed[:1]),
                    "delete": symbol(e.before) + symbol(e.meant[:1]),
                    "insert": symbol(e.before) + symbol(e.typed[:1]),
                    "transpose": "".join(map(symbol, e.meant)),
                }[e.kind]
                counts[e.kind][key] += 1
        channel = Channel(**{kind: _costs(kind, found, chars) for kind, found in counts.items()})
    return channel


def _costs(kind: str, counts: Counter[str], chars: Counter[str]) -> dict[str, float]:
    """-log of smoothed rates: how often it happened for each time that it could have."""
    costs = {}
    for a in ALPHABET:
        for b in ALPHABET:
            if kind == "substitute" and a == b:
                continue
            prior = PRIOR + (NEIGHBOUR_PRIOR if kind == "substitute" and b in NEIGHBOURS.get(a, "") else 0.0)
            chances = chars[a + b] if kind in ("delete", "transpose") else chars[a]
            costs[a + b] = round(-math.log((counts[a + b] + prior) / (chances + STEADY)), 2)
    return costs


def shares(pairs: list[Pair], channel: Channel) -> Shares:
    """The shares seen in `pairs`."""
    found: Counter[str] = Counter()
    number: Counter[int] = Counter()
    seen, first, expected = 0, 0, 0.0  # errors, those on the first letter of a word, those if it were like any other
    for typed, meant in pairs:
        names = kinds(typed, meant, channel)
        found.update(names)
        number[min(len(names), 3)] += 1
        edits = channel.edits(typed, meant)
        seen += (here := sum(e.meant not in ("", " ") for e in edits))
        first += sum(e.before == " " and e.meant not in ("", " ") for e in edits)
        expected += here * len(meant.split()) / max(len(meant.replace(" ", "")), 1)
    total = sum(found.values())
    rate = first / expected if seen else 1.0
    return Shares(
        {k: found[k] / total for k in KINDS}, [number[n] / sum(number[k] for k in (1, 2, 3)) for n in (1, 2, 3)], rate
    )


def blend(a: Shares, b: Shares) -> Shares:
    """Their mean, raised to `FLOORS`; number of errors and first letters are those of `a`."""
    mean = {k: max((a.kinds[k] + b.kinds[k]) / 2, FLOORS.get(k, 0.0)) for k in KINDS}
    return Shares({k: share / sum(mean.values()) for k, share in mean.items()}, a.edits, a.first_letter)


def generate(noise: Noise, names: list[str], count: int, seed: int) -> list[Pair]:
    rng = random.Random(seed)
    pairs = [(noise.corrupt(name, rng), name) for name in rng.choices(names, k=count)]
    return [(t, m) for t, m in pairs if t != m]


def fit_weights(channel: Channel, wanted: Shares, names: list[str]) -> tuple[Noise, Shares]:
    """The noise whose typos of `names` show the `wanted` shares, and the shares that they do show."""
    weights = {kind: max(share, LEAST) for kind, share in wanted.kinds.items()}
    noise = Noise(channel, weights, wanted.edits, min(wanted.first_letter, 1.0))
    seen = wanted
    for n in track(range(ROUNDS), description="fitting", transient=True):
        seen = shares(generate(noise, names, GENERATED if n == ROUNDS - 1 else GENERATED // 5, seed=n), channel)
        if n == ROUNDS - 1:
            break
        weights = {k: w * ((wanted.kinds[k] + 1e-3) / (seen.kinds[k] + 1e-3)) ** 0.7 for k, w in weights.items()}
        most = {k: MOST * max(share, LEAST) for k, share in wanted.kinds.items()}
        weights = {k: min(w, most[k]) for k, w in weights.items()}
        total = sum(weights.values())
        weights = {k: w / total for k, w in weights.items()}
        noise = Noise(channel, weights, wanted.edits, noise.first_letter)
    return noise, seen


def table(columns: dict[str, Shares]) -> list[str]:
    """Markdown lines: share of each kind, one column for each set of pairs."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for kind in KINDS:
        lines.append(f"| {kind} | " + " | ".join(f"{s.kinds[kind]:.1%}" for s in columns.values()) + " |")
    for n, word in enumerate(("one error", "two errors", "three or more")):
        lines.append(f"| {word} | " + " | ".join(f"{s.edits[n]:.1%}" for s in columns.values()) + " |")
    lines.append("| first letters, relative | " + " | ".join(f"{s.first_letter:.2f}" for s in columns.values()) + " |")
    return lines


def fit(files: list[Path], names: list[str], channel_out: Path, weights_out: Path) -> list[str]:
    """Fit channel and weights to the pair `files`, write both, and return the table of the fit.

    Raises:
        InvalidInput: a file has no usable pairs.
    """
    pairs = [read_pairs(path) for path in files]
    others = [pair for found in pairs[1:] for pair in found]
    channel = fit_channel([pair for found in pairs for pair in found])
    first = shares(pairs[0], channel)
    near = [(t, m) for t, m in others if OSA.distance(t, m) <= 2]
    wanted = blend(first, shares(near, channel) if near else first)
    noise, seen = fit_weights(channel, wanted, names)
    tables = {kind: getattr(channel, kind) for kind in get_args(Kind)}
    channel_out.write_text(json.dumps(tables, separators=(",", ":")) + "\n", encoding="utf-8")
    kinds_ = {k: round(w, 5) for k, w in noise.weights.items()}
    stored = {"kinds": kinds_, "edits": noise.edits, "first_letter": noise.first_letter}
    weights_out.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    columns = {files[0].stem: first, **({"the other files": shares(near, channel)} if near else {}), "wanted": wanted}
    return table({**columns, "generated": seen})
