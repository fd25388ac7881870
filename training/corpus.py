"""Names to learn from: catalogue files read into folded names with sampling weights.

Reads the index's own CSV columns (kind, title, artist, …) and plain tab-separated catalogues with `title` and `artist`
(or `publisher`, or `playlist`) columns.
"""

from __future__ import annotations

import csv
import hashlib
import random
from dataclasses import dataclass, field
from pathlib import Path

from app.text import fold

MAX_CHARS = 64  # longer names are rare and cost padding


@dataclass(frozen=True, slots=True)
class Entry:
    """One catalogue row: what a listener may type for it, folded."""

    title: str
    artist: str
    kind: str
    weight: float  # relative frequency with which it is searched for


@dataclass(slots=True)
class Corpus:
    """Entries and the cumulative weights to draw them by."""

    entries: list[Entry] = field(default_factory=list)
    cumulative: list[float] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.cumulative.append((self.cumulative[-1] if self.cumulative else 0.0) + entry.weight)

    def draw(self, rng: random.Random) -> Entry:
        return rng.choices(self.entries, cum_weights=self.cumulative)[0]


def held_out(name: str, share: float) -> bool:
    """True for a fixed `share` of names, by hash: these are kept from training to test on names never seen."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") < share * 2**32


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def load(paths: list[Path], shares: list[float] | None = None, holdout: float = 0.0) -> Corpus:
    """All names of the files; file *i* makes `shares[i]` of what is drawn.

    Within a file a row's weight grows with its popularity (`popularity` 0–100, or `billboard_weeks`), by a factor of at
    most four: heads are searched more, tails must be learnt too.

    Raises:
        ValueError: a file has no usable row.
    """
    corpus = Corpus()
    for path, share in zip(paths, shares or [1.0] * len(paths), strict=True):
        found: dict[tuple[str, str], Entry] = {}
        for row in read_rows(path):
            title = fold(row.get("title") or row.get("playlist") or "")
            artist = fold(row.get("artist") or row.get("publisher") or "") if "playlist" not in row else ""
            if "playlist" in row:
                title = fold(row["playlist"])
            kind = row.get("kind") or ("podcast" if "publisher" in row else "playlist" if "playlist" in row else "track")
            if not any(c.isalnum() for c in title) or len(title) > MAX_CHARS:
                continue
            if holdout and held_out(title, holdout):
                continue
            fame = float(row.get("popularity") or 0) / 100 or min(float(row.get("billboard_weeks") or 0), 30) / 30
            found.setdefault((title, artist), Entry(title, artist, kind, 1.0 + 3.0 * fame))
        if not found:
            raise ValueError(f"{path}: no usable row (a `title` column with letters or digits is needed)")
        total = sum(e.weight for e in found.values())
        for e in found.values():
            corpus.add(Entry(e.title, e.artist, e.kind, share * e.weight / total))
    return corpus


def query_for(entry: Entry, rng: random.Random) -> str:
    """What someone looking for `entry` would type, spelt right: title, artist, both in either order, or one word."""
    if not entry.artist or entry.kind == "artist" or len(entry.artist) > MAX_CHARS // 2:
        return entry.title
    form = rng.random()
    if form < 0.38:
        return entry.title
    if form < 0.62:
        return entry.artist
    if form < 0.88:
        pair = (entry.title, entry.artist) if rng.random() < 0.6 else (entry.artist, entry.title)
        text = " ".join(pair)
        return text if len(text) <= MAX_CHARS else entry.title
    words = [w for w in f"{entry.title} {entry.artist} {entry.artist}".split() if len(w) > 3]
    return rng.choice(words) if words else entry.artist
