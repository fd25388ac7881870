"""Catalogue files, row by row: CSV, TSV, JSON Lines and Parquet into `Item`s; bad rows are named, never fatal.

A catalogue may have these columns, of which only `title` is required: ``id, kind, title, artist, album, year, genres, moods,
popularity``. ``;`` separates the entries of genres and moods; JSON Lines and Parquet may hold real lists. Podcast files may
say ``publisher`` for artist and ``topics`` for genres. Every other column is kept as `Item.extra`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

from app.domain import KINDS, Item, Kind
from app.errors import InvalidInput, SetupError
from app.index.schema import point_id
from app.index.tables import Broken, RawRow, json_row, text_rows
from app.text import fold

MAX_CELL_BYTES = 64 * 1024
YEARS = range(1000, 2101)

_COLUMNS = ("id", "kind", "title", "artist", "album", "year", "genres", "moods", "popularity", "publisher", "topics")
_WHOLE = re.compile(r"[0-9]{1,9}(\.0*)?")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not in the index.

    Attributes:
        line: where it begins, counted from 1: the line of a text file, the row of a Parquet file.
        reason: what is wrong with it.
    """

    line: int
    reason: str


class RowRejected(Exception):
    """A row is no item; the message says why."""


def read_items(path: Path) -> Iterator[Item | Rejected]:
    """Stream the rows of a catalogue file, each as an `Item` or as the reason why not.

    Raises:
        InvalidInput: the file cannot be read at all, or has no `title` column; the message names the cure.
        SetupError: it is a Parquet file and pyarrow does not load.
    """
    seen: set[int] = set()
    for line, row in _rows(path):
        if isinstance(row, Broken):
            yield Rejected(line, row.reason)
            continue
        try:
            item = item_of(row)
        except RowRejected as exc:
            yield Rejected(line, str(exc))
            continue
        point = point_id(item.id)
        if point in seen:
            given = _text(row, "id")
            yield Rejected(
                line, f"duplicate id {_shown(given)}" if given else "same kind, title, artist and album as an earlier row"
            )
            continue
        seen.add(point)
        yield item


def estimate_rows(path: Path) -> int | None:
    """About how many rows the file has, without parsing it: the newlines of a text file. None when it cannot be told."""
    if path.suffix.lower() == ".parquet":
        count: int | None = _parquet().parquet_row_count(path)
        return count
    try:
        with path.open("rb") as file:
            newlines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return None
    return newlines


def _rows(path: Path) -> Iterator[tuple[int, RawRow | Broken]]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            yield from _parquet().parquet_rows(path)
        else:
            yield from text_rows(path, suffix)
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read ({exc.strerror or exc}): check the path and its permissions") from exc


def _parquet() -> ModuleType:
    try:
        from app.index import parquet
    except ImportError as exc:
        raise SetupError(f"Parquet files need a working pyarrow ({exc}): install again, or convert the file to CSV") from exc
    return parquet


def item_of_line(line: bytes | None) -> Item | None:
    """The item in a line of JSON Lines; None where the line is blank.

    Raises:
        RowRejected: it is no item, or None: too long to be read; the message says why.
    """
    if line is None:
        raise RowRejected(f"line over {MAX_CELL_BYTES // 1024} KiB")
    if not line.strip():
        return None
    row = json_row(line.removeprefix(b"\xef\xbb\xbf"))
    if isinstance(row, Broken):
        raise RowRejected(row.reason)
    return item_of(row)


def item_of(row: Mapping[str, Any]) -> Item:
    """One row, column (lower case) → raw value, as an item.

    Raises:
        RowRejected: it is none; the message says why.
    """
    for column, value in row.items():
        if value is not None and _size(value) > MAX_CELL_BYTES:
            raise RowRejected(f"{column} is longer than {MAX_CELL_BYTES // 1024} KiB")
    title = _text(row, "title")
    if not fold(title):
        raise RowRejected("title is missing or blank")
    publisher = _text(row, "publisher")
    artist = _text(row, "artist")
    kind = _kind(_text(row, "kind"), default="podcast" if publisher and not artist else "track")
    artist = artist or publisher
    album = _text(row, "album")
    return Item(
        id=_text(row, "id") or _derived_id(kind, title, artist, album),
        title=title,
        kind=kind,
        artist=artist,
        album=album,
        year=_year(row.get("year")),
        genres=_list(row, "genres") or _list(row, "topics"),
        moods=_list(row, "moods"),
        popularity=_popularity(row.get("popularity")),
        extra={column: _plain(value) for column, value in row.items() if column not in _COLUMNS and value not in (None, "")},
    )


def _derived_id(*names: str) -> str:
    return blake2b("\0".join(names).encode(), digest_size=8).hexdigest()


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, (list, dict)):
        return len(orjson.dumps(_plain(value)))
    return len(value) if isinstance(value, bytes) else 0


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):  # 1999 may be a title, true may not
        raise RowRejected(f"{column} is not text: {_shown(value)}")
    return str(value).strip()


def _kind(text: str, default: Kind) -> Kind:
    if not text:
        return default
    for kind in KINDS:
        if text.lower() == kind:
            return kind
    raise RowRejected(f"kind {_shown(text)} is none of {', '.join(KINDS)}")


def _year(value: Any) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if not value.strip():
            return None
        year = int(float(value)) if _WHOLE.fullmatch(value.strip()) else None
    else:
        whole = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value == int(value)
        year = int(value) if whole else None
    if year is None:
        raise RowRejected(f"year {_shown(value)} is not a whole number")
    if year not in YEARS:
        raise RowRejected(f"year {year} is not between {YEARS[0]} and {YEARS[-1]}")
    return year


def _popularity(value: Any) -> float:
    if value is None or (isinstance(value, str) and not value.strip()):
        return 0.0
    try:
        popularity = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        popularity = math.nan
    if not 0.0 <= popularity <= 100.0:
        raise RowRejected(f"popularity {_shown(value)} is not a number from 0 to 100")
    return popularity


def _list(row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    value = row.get(column)
    entries = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(entries, list) or not all(entry is None or isinstance(entry, str) for entry in entries):
        raise RowRejected(f"{column} is neither text nor a list of texts: {_shown(value)}")
    parts = (part.strip() for entry in entries if entry for part in entry.split(";"))
    return tuple(dict.fromkeys(part for part in parts if part))


def _plain(value: Any) -> Any:
    """`value` in JSON's types; dates, decimals and the like become text, numbers JSON cannot hold become text too."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
