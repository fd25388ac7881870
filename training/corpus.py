"""Names to learn from: catalogue files read into folded names with sampling weights.

Reads what the index reads (.csv, .tsv, .jsonl, .parquet with kind, title, artist, …; `publisher` stands for artist). Where a
file has a `playlist` column, the playlists' names are learnt, not the titles. A row that holds no name is counted, not fatal.
"""

from __future__ import annotations

import csv
import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import InvalidInput
from app.index.tables import Broken, RawRow, text_rows
from app.text import fold

MAX_CHARS = 64  # longer names are rare and cost padding
HOLDOUT = 0.02  # share of titles a speller never trains on


@dataclass(frozen=True, slots=True)
class Entry:
    """One catalogue row: what a listener may type for it, folded."""

    title: str
    artist: str
    kind: str
    weight: float  # relative frequency with which it is searched for


@dataclass(slots=True)
class Corpus:
    """Entries and the cumulative weights to draw them by; `skipped` says what each file held beside them."""

    entries: list[Entry] = field(default_factory=list)
    cumulative: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.cumulative.append((self.cumulative[-1] if self.cumulative else 0.0) + entry.weight)

    def draw(self, rng: random.Random) -> Entry:
        return rng.choices(self.entries, cum_weights=self.cumulative)[0]


def held_out(name: str, share: float) -> bool:
    """True for a fixed `share` of names, by hash: these are kept from training to test on names never seen."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") < share * 2**32


def for_evaluation(text: str) -> bool:
    """Whether a text about things in no catalogue is left to evaluation: half of them, by hash."""
    return held_out(f"about other things: {text}", 0.5)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def catalogue_rows(path: Path) -> Iterator[RawRow | Broken]:
    """Rows of a .csv, .tsv, .jsonl or .parquet catalogue.

    Raises:
        InvalidInput: the file is not there, empty, of another kind, unreadable, or has no `title` column.
    """
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise InvalidInput(f"{path} is empty: a catalogue has a line of column names, `title` among them, and its rows")
        if path.suffix.lower() == ".parquet":
            from app.index.parquet import parquet_rows  # pyarrow takes 0.2 s to load

            rows = parquet_rows(path)
        else:
            rows = text_rows(path, path.suffix.lower())
        yield from (row for _, row in rows)
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read ({exc.strerror or exc}): check the path and its permissions") from exc


def entry_of(row: RawRow) -> Entry | str:
    """What can be learnt from a row, or why nothing can."""
    if "playlist" in row:
        title, artist, kind = fold(_text(row, "playlist")), "", "playlist"
    else:
        title, artist = fold(_text(row, "title")), fold(_text(row, "artist") or _text(row, "publisher"))
        kind = "podcast" if "publisher" in row else "track"
    if not any(c.isalnum() for c in title):
        return "no letters or digits in the title"
    if len(title) > MAX_CHARS:
        return f"title longer than {MAX_CHARS} characters"
    fame = _number(row, "popularity", 100) or _number(row, "billboard_weeks", 30)
    return Entry(title, artist if any(c.isalnum() for c in artist) else "", _text(row, "kind") or kind, 1.0 + 3.0 * fame)


def _text(row: RawRow, column: str) -> str:
    value = row.get(column)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _number(row: RawRow, column: str, most: float) -> float:
    """A column as a share of `most`, 0–1; 0 where it holds no number."""
    try:
        value = float(row.get(column) or 0)
    except (TypeError, ValueError):
        return 0.0
    return min(max(value, 0.0), most) / most if math.isfinite(value) else 0.0


def load(paths: list[Path], shares: list[float] | None = None, holdout: float = 0.0) -> Corpus:
    """All names of the files; file *i* makes `shares[i]` of what is drawn. What was skipped is counted in `Corpus.skipped`.

    Within a file a row's weight grows with its popularity (`popularity` 0–100, or `billboard_weeks`), by a factor of at
    most four: heads are searched more, tails must be learnt too. A file of so few names that all of them would be held out
    is learnt whole.

    Raises:
        InvalidInput: a file cannot be read or has no usable row, or the shares do not fit the files.
    """
    shares = shares or [1.0] * len(paths)
    if len(shares) != len(paths) or not all(math.isfinite(share) and share > 0 for share in shares):
        raise InvalidInput(f"{len(paths)} catalogues but {len(shares)} shares: give one --share above 0 for each --catalogue")
    corpus = Corpus()
    for path, share in zip(paths, shares, strict=True):
        found, skipped, rows = _read(path)
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common(4))
        if not found:
            raise InvalidInput(f"{path}: no name to learn in its {rows:,} rows{': ' if reasons else ''}{reasons}")
        if skipped:
            corpus.skipped.append(f"{path}: {skipped.total():,} of {rows:,} rows skipped: {reasons}")
        kept = [e for e in found if not (holdout and held_out(e.title, holdout))] or found
        total = sum(e.weight for e in kept)
        for e in kept:
            corpus.add(Entry(e.title, e.artist, e.kind, share * e.weight / total))
    return corpus


def _read(path: Path) -> tuple[list[Entry], Counter[str], int]:
    """The different names of a file, how many rows hold none, by reason, and how many rows there are."""
    found: dict[tuple[str, str], Entry] = {}
    skipped: Counter[str] = Counter()
    rows = 0
    for rows, row in enumerate(catalogue_rows(path), 1):  # noqa: B007 - the last number is the count
        entry = row.reason if isinstance(row, Broken) else entry_of(row)
        if isinstance(entry, str):
            skipped[entry] += 1
        else:
            found.setdefault((entry.title, entry.artist), entry)
    return list(found.values()), skipped, rows


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
