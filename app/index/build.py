"""A catalogue file becomes an index: read, embed, write, swap in. An index is only ever replaced whole, by a new version."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from app.domain import Item
from app.errors import IndexUnavailable, InvalidInput
from app.index.change import copy_to_change
from app.index.edge_apart import EdgeWriterApart
from app.index.edge_earlier import EarlierVersion
from app.index.edge_layout import FLAT, EdgeLayout
from app.index.edge_writer import EdgeWriter
from app.index.filling import Counts, Embed, Filling, passage_digest
from app.index.manifest import EXTERNAL, Manifest, now
from app.index.readers import Rejected, estimate_rows, read_items
from app.index.versions import current_version, new_version

log = logging.getLogger("searchbar")

CHUNK = 1_000  # items embedded and written at a time

Mode = Literal["replace", "update"]

Progress = Callable[[int, "int | None"], None]
"""Rows done, rows in all (an estimate; None when unknown)."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Attributes:
    items: how many are in the new index.
    rejected: how many rows are not.
    rejects: where these are listed, a JSON object ``{"line", "reason"}`` a line; None when there are none.
    seconds: how long the build took.
    counts: the rows that are, by what became of them.
    """

    items: int
    rejected: int
    rejects: Path | None
    seconds: float
    counts: Counts


async def build_index(
    source: Path,
    out: Path,
    embed: Embed,
    dimensions: int,
    embedder_name: str,
    progress: Progress,
    *,
    mode: Mode = "replace",
    layout: EdgeLayout | None = None,
    finishing: Callable[[], None] = lambda: None,
) -> BuildReport:
    """Build the index of `source` and put it in place of the one at `out`, if any.

    `out` names the old index until the new one is whole, whatever happens before; whoever has the old one open keeps it.

    Args:
        dimensions: length of the stored vectors; longer embeddings are shortened (`vectors.shorten`).
        mode: ``replace`` holds the rows of `source` alone, and takes over the old index's embeddings of passages that are the
            same; ``update`` adds them to a copy of the old index or replaces them there by id, and leaves equal ones alone.
        layout: of a new index; an updated one keeps its own.
        finishing: called when all rows are read and the index is brought into its final form, which takes long.

    Raises:
        InvalidInput: `source` cannot be read or has no usable row, `out` cannot be replaced, or there is nothing to update.
        ModelFailed: `embed` returned the wrong shape or numbers that are not finite.
        IndexUnavailable: the engine cannot write.
    """
    started = time.monotonic()
    rows = estimate_rows(source)
    rejects = out.absolute().with_name(out.name + ".rejects.jsonl")
    with new_version(out) as version, contextlib.ExitStack() as stack:
        old = current_version(out)
        report = version / "rejects.jsonl"
        writer: EdgeWriter | EdgeWriterApart
        if mode == "update":
            writer = copy = copy_to_change(out, old, version, dimensions, embedder_name)
            stack.callback(writer.close)
            filling = Filling(writer, embed, dimensions, copy.held, in_place=True)
        else:
            writer = (EdgeWriterApart if (rows or 0) > FLAT else EdgeWriter)(version, dimensions, layout)
            stack.callback(writer.close)
            earlier = _earlier(old, dimensions, embedder_name)
            if earlier is not None:
                stack.callback(earlier.close)
            filling = Filling(writer, embed, dimensions, earlier.held if earlier else None)
        with report.open("w", encoding="utf-8") as file:
            rejected = await fill_from(filling, source, file, progress, rows)
        place(report, rejects, rejected)
        counts = filling.counts
        if not counts.embedded + counts.taken_over + counts.unchanged:
            raise InvalidInput(f"{source} has no usable row" + (f": see {rejects}" if rejected else ""))
        finishing()
        items = writer.items
        writer.finish(_manifest(dimensions, embedder_name, items, source.name, writer.layout))
    return BuildReport(items, rejected, rejects if rejected else None, time.monotonic() - started, counts)


def _earlier(old: Path | None, dimensions: int, embedder_name: str) -> EarlierVersion | None:
    """The version whose embeddings may be taken over; None when there is none, or other weights or words made them."""
    if old is None:
        return None
    try:
        manifest = Manifest.read(old)
        same = manifest.embedder == embedder_name != EXTERNAL and manifest.passages == passage_digest()
        return EarlierVersion(old) if same and manifest.dimensions >= dimensions else None
    except IndexUnavailable as exc:
        log.warning("every item is embedded again: %s", exc)
        return None


def _manifest(dimensions: int, embedder_name: str, items: int, source: str, layout: EdgeLayout) -> Manifest:
    return Manifest(
        dimensions, embedder_name, items, now(), source, quantisation=layout.quantisation, passages=passage_digest()
    )


async def fill_from(filling: Filling, source: Path, rejects: TextIO, progress: Progress, total: int | None) -> int:
    """Give every usable row of `source` to `filling`, list the others in `rejects`; returns how many these are.

    Args:
        total: how many rows there are, about.
    """
    done, rejected = 0, 0
    batch: list[Item] = []
    progress(0, total)
    try:
        for row in read_items(source):
            done += 1
            if isinstance(row, Rejected):
                rejected += 1
                rejects.write(json.dumps({"line": row.line, "reason": row.reason}, ensure_ascii=False) + "\n")
            else:
                batch.append(row)
            if len(batch) == CHUNK:
                await filling.take(batch)
                batch = []
            if done % CHUNK == 0:
                progress(done, None if total is None else max(done, total))
        if batch:
            await filling.take(batch)
        await filling.finish()
    finally:
        await filling.abandon()
    progress(done, done)
    return rejected


def place(report: Path, rejects: Path, rejected: int) -> None:
    """The list of rejected rows beside the index, or none from an earlier build."""
    if rejected:
        os.replace(report, rejects)
    else:
        report.unlink()
        rejects.unlink(missing_ok=True)
