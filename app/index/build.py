"""A catalogue file becomes an index: read, embed, write, swap in."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from app.domain import Item
from app.errors import InvalidInput, ModelFailed
from app.index.edge_writer import EdgeWriter
from app.index.manifest import Manifest
from app.index.passage import passage_text
from app.index.readers import Rejected, estimate_rows, read_items
from app.index.versions import new_version

BATCH = 256  # items embedded and written at a time

Embed = Callable[[list[str]], Awaitable[npt.NDArray[np.float32]]]
"""Passages → L2-normalised embeddings, float32 [passages, dimensions]."""

Progress = Callable[[int, "int | None"], None]
"""Rows done, rows in all (an estimate; None when unknown)."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Attributes:
    items: how many are in the new index.
    rejected: how many rows are not.
    rejects: where these are listed, a JSON object ``{"line", "reason"}`` a line; None when there are none.
    seconds: how long the build took.
    """

    items: int
    rejected: int
    rejects: Path | None
    seconds: float


async def build_index(
    source: Path, out: Path, embed: Embed, dimensions: int, embedder_name: str, progress: Progress
) -> BuildReport:
    """Build the index of `source` and put it in place of the one at `out`, if any.

    `out` names the old index until the new one is whole, whatever happens before; whoever has the old one open keeps it.

    Raises:
        InvalidInput: `source` cannot be read or has no usable row, or `out` cannot be replaced.
        ModelFailed: `embed` returned the wrong shape or numbers that are not finite.
        IndexUnavailable: the engine cannot write.
    """
    started = time.monotonic()
    rejects = out.absolute().with_name(out.name + ".rejects.jsonl")
    with new_version(out) as version:
        report = version / "rejects.jsonl"
        writer = EdgeWriter(version, dimensions)
        try:
            with report.open("w", encoding="utf-8") as file:
                rejected = await _fill(writer, source, file, embed, dimensions, progress)
            _place(report, rejects, rejected)
            if not writer.items:
                raise InvalidInput(f"{source} has no usable row" + (f": see {rejects}" if rejected else ""))
            created = datetime.now(timezone.utc).isoformat(timespec="seconds")
            writer.finish(Manifest(dimensions, embedder_name, writer.items, created, source.name))
        finally:
            writer.close()
    return BuildReport(writer.items, rejected, rejects if rejected else None, time.monotonic() - started)


async def _fill(writer: EdgeWriter, source: Path, rejects: TextIO, embed: Embed, dimensions: int, progress: Progress) -> int:
    """Write every usable row; returns how many were not."""
    total, done, rejected = estimate_rows(source), 0, 0
    batch: list[Item] = []

    async def flush() -> None:
        if batch:
            writer.add(batch, await _vectors(batch, embed, dimensions))
            batch.clear()

    progress(0, total)
    for row in read_items(source):
        done += 1
        if isinstance(row, Rejected):
            rejected += 1
            rejects.write(json.dumps({"line": row.line, "reason": row.reason}, ensure_ascii=False) + "\n")
        else:
            batch.append(row)
        if len(batch) == BATCH:
            await flush()
        if done % BATCH == 0:
            progress(done, None if total is None else max(done, total))
    await flush()
    progress(done, done)
    return rejected


async def _vectors(items: list[Item], embed: Embed, dimensions: int) -> npt.NDArray[np.float32]:
    vectors = np.asarray(await embed([passage_text(item) for item in items]), dtype=np.float32)
    if vectors.shape != (len(items), dimensions):
        raise ModelFailed(f"the embedder returned an array {vectors.shape}, expected {(len(items), dimensions)}")
    if not np.isfinite(vectors).all():
        raise ModelFailed("the embedder returned numbers that are not finite")
    return vectors


def _place(report: Path, rejects: Path, rejected: int) -> None:
    """The list of rejected rows beside the index, or none from an earlier build."""
    if rejected:
        os.replace(report, rejects)
    else:
        report.unlink()
        rejects.unlink(missing_ok=True)
