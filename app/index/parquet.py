"""Rows of Parquet files. The one module that imports pyarrow; import it only for such a file (0.2 s and 60 MiB)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as arrow
from pyarrow import parquet

from app.errors import InvalidInput
from app.index.tables import Broken, RawRow, columns_of

BATCH = 1024  # rows in memory at a time


def parquet_rows(path: Path) -> Iterator[tuple[int, RawRow | Broken]]:
    """(row number, row) of a Parquet file.

    Raises:
        InvalidInput: it is not Parquet or damaged, or has no `title` column.
        OSError: the file cannot be opened or read.
    """
    with path.open("rb") as source:
        try:
            file = parquet.ParquetFile(source)
            columns = columns_of(file.schema_arrow.names, path)
            line = 0
            for batch in file.iter_batches(batch_size=BATCH):
                for values in zip(*(_cells(column) for column in batch.columns), strict=True):
                    line += 1
                    bad = any(isinstance(value, Broken) for value in values)
                    yield line, Broken("not valid UTF-8") if bad else dict(zip(columns, values, strict=True))
        except (arrow.ArrowException, OSError) as exc:
            raise InvalidInput(f"{path} is not a readable Parquet file ({exc}): write it again") from exc


def parquet_row_count(path: Path) -> int | None:
    """How many rows a Parquet file has, from its footer; None when that cannot be read."""
    try:
        return int(parquet.read_metadata(path).num_rows)
    except (arrow.ArrowException, OSError):
        return None


def _cells(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_cell(value) for value in column]


def _cell(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return Broken("not valid UTF-8")
