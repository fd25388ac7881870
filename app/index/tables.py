"""Rows of text tables as mappings from column to raw value, with the line each begins on. Meaning is `readers.py`'s."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from app.errors import InvalidInput

RawRow = Mapping[str, Any]
MAX_LINE_BYTES = 8 * 1024 * 1024  # of JSON Lines: bounds memory when a file is one endless line


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be taken apart into cells, and why."""

    reason: str


def text_rows(path: Path, suffix: str) -> Iterator[tuple[int, RawRow | Broken]]:
    """(line, row) of a CSV, TSV or JSON Lines file.

    Raises:
        InvalidInput: unknown suffix, not UTF-8 text at all, no header, or no `title` column.
        OSError: the file cannot be opened or read.
    """
    if suffix not in {".csv", ".tsv", ".tab", ".jsonl", ".ndjson"}:
        raise InvalidInput(f"{path}: not a catalogue format: use a .csv, .tsv, .jsonl or .parquet file")
    with path.open("rb") as file:
        start = file.read(4)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InvalidInput(f"{path} is UTF-16: save it as UTF-8")
        if start in (b"PK\x03\x04", b"PAR1") or start[:2] == b"\x1f\x8b":
            raise InvalidInput(f"{path} is not text, whatever its name says: unpack it, or name a Parquet file .parquet")
        file.seek(3 if start[:3] == b"\xef\xbb\xbf" else 0)
        if suffix in {".jsonl", ".ndjson"}:
            yield from _json_rows(file, path)
        else:
            yield from _delimited_rows(file, path, is_csv=suffix == ".csv")


class _Lines:
    """Lines of a file as text, numbered from 1, which can be given back: a stray quote then costs one row, not many.

    Undecodable bytes travel as lone surrogates, so that a bad line costs one row, also inside a quoted cell.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._source: Iterator[str] = (line.decode("utf-8", "surrogateescape") for line in file)
        self._taken: list[str] = []
        self.first = 1  # number of the line the current record begins on

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._source)
        self._taken.append(line)
        return line

    def done(self, records_lines: int | None = None) -> None:
        """The current record is over; it was the first `records_lines` of the lines taken since the last, or all of them."""
        kept = len(self._taken) if records_lines is None else records_lines
        self._source = chain(self._taken[kept:], self._source) if kept < len(self._taken) else self._source
        self._taken.clear()
        self.first += kept


def _delimited_rows(file: BinaryIO, path: Path, is_csv: bool) -> Iterator[tuple[int, RawRow | Broken]]:
    lines = _Lines(file)
    # TSV has no quoting (IANA text/tab-separated-values): a quotation mark belongs to its title.
    table = csv.reader(lines, strict=True) if is_csv else csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        columns = columns_of(next(table, []), path)
    except csv.Error as exc:
        raise InvalidInput(f"{path}: the header line cannot be read ({exc}): name the columns in its first line") from exc
    lines.done()
    while True:
        line = lines.first
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as exc:
            lines.done(1)
            yield line, Broken(f"not {'CSV' if is_csv else 'TSV'}: {exc} (a stray quote, or a cell over 64 KiB?)")
            continue
        lines.done()
        if not any(cells):
            continue
        yield line, _checked(cells, columns)


def _checked(cells: Sequence[str], columns: Sequence[str]) -> RawRow | Broken:
    for cell in cells:
        if "\0" in cell:
            return Broken("holds a NUL character")
        if not cell.isascii() and any("\udc80" <= char <= "\udcff" for char in cell):
            return Broken("not valid UTF-8")
    if len(cells) > len(columns):
        return Broken(f"{len(cells)} cells, the header has {len(columns)}: quote a cell that holds the separator")
    return dict(zip(columns, cells, strict=False))  # the last cells of a short row are empty


def columns_of(header: Sequence[str], path: Path) -> list[str]:
    """The column names of a header, lower case; a nameless column is called after its place.

    Raises:
        InvalidInput: there is no `title` column, or two have the same name.
    """
    columns = [name.strip().lower() or f"column_{at}" for at, name in enumerate(header, 1)]
    _require_title(columns, path)
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise InvalidInput(f"{path}: column {', '.join(twice)} occurs more than once: rename one")
    return columns


def _require_title(columns: Sequence[str], path: Path) -> None:
    if "title" not in columns:
        found = ", ".join(columns[:20])[:200].encode("utf-8", "replace").decode() or "none"
        raise InvalidInput(f"{path} has no `title` column (found: {found}): rename the column that holds the names to `title`")


def _json_rows(file: BinaryIO, path: Path) -> Iterator[tuple[int, RawRow | Broken]]:
    line, titled, keys = 0, False, dict[str, None]()
    while text := file.readline(MAX_LINE_BYTES):
        line += 1
        if len(text) == MAX_LINE_BYTES and not text.endswith(b"\n"):
            while (text := file.readline(MAX_LINE_BYTES)) and not text.endswith(b"\n"):
                pass
            yield line, Broken(f"line over {MAX_LINE_BYTES >> 20} MiB")
            continue
        if not text.strip():
            continue
        row = json_row(text)
        if not isinstance(row, Broken):
            titled = titled or "title" in row
            keys.update(dict.fromkeys(row) if len(keys) < 20 else {})
        yield line, row
    if not titled:
        _require_title(list(keys), path)


def json_row(text: bytes) -> RawRow | Broken:
    """One line of JSON Lines as a row, its columns in lower case."""
    try:
        found = orjson.loads(text.decode())
    except UnicodeDecodeError:
        return Broken("not valid UTF-8")
    except orjson.JSONDecodeError as exc:
        return Broken(f"not valid JSON: {exc.msg}")
    if not isinstance(found, dict):
        return Broken("not a JSON object")
    return {str(key).strip().lower(): value for key, value in found.items()}
