"""A whole new index where `build.py` does not build: on a Qdrant cluster, or with the embeddings that Ray's workers make.

Every item is embedded; what an earlier version holds is not looked at.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

import numpy as np
import numpy.typing as npt

from app.domain import Item
from app.errors import InvalidInput, ModelFailed
from app.index.address import ClusterAddress
from app.index.build import BuildReport, Progress, fill_from, place
from app.index.edge_layout import EdgeLayout
from app.index.edge_writer import EdgeWriter
from app.index.filling import Counts, Embed, Filling, passage_digest
from app.index.manifest import Manifest, now
from app.index.readers import estimate_rows
from app.index.vectors import shorten
from app.index.versions import new_version

if TYPE_CHECKING:
    from app.index.cluster_writer import ClusterWriter
    from app.index.ray_engine import EmbeddedRows


class WholeWriter(Protocol):
    """Writes an index that nobody sees before `finish`: `EdgeWriter`, `ClusterWriter`."""

    @property
    def items(self) -> int:
        """How many items it holds now."""

    def add(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """Add items with their L2-normalised embeddings, float32 [items, dimensions]."""

    def finish(self, manifest: Manifest) -> None:
        """Make it whole."""


Fill = Callable[[WholeWriter, TextIO], Awaitable[int]]
"""Writes every usable row, and lists the others in the file, of which it returns the number."""


@contextlib.contextmanager
def new_directory(out: Path, dimensions: int, layout: EdgeLayout) -> Iterator[EdgeWriter]:
    """A writer of the next version of the directory `out`; see `versions.new_version`."""
    with new_version(out) as version, contextlib.closing(EdgeWriter(version, dimensions, layout)) as writer:
        yield writer


@contextlib.contextmanager
def new_collection(address: ClusterAddress, api_key: str | None, dimensions: int) -> Iterator[ClusterWriter]:
    """A writer of the next version of the index on a cluster; see `cluster_writer.py`."""
    from app.index.cluster_engine import Server
    from app.index.cluster_writer import PATIENCE_S, ClusterWriter

    server = Server(address, api_key, PATIENCE_S)
    with contextlib.closing(ClusterWriter(server, address.collection, dimensions, address.layout)) as writer:
        yield writer


async def build_whole(
    source: Path,
    target: AbstractContextManager[WholeWriter],
    fill: Fill,
    rejects: Path,
    manifest: Callable[[int], Manifest],
) -> BuildReport:
    """Build the index of `source` in `target`.

    Args:
        target: `new_directory` or `new_collection`.
        fill: `embedding_here` or `embedding_on_ray`.
        rejects: absolute path of the file to list unusable rows in; removed when there are none.
        manifest: of an index of so many items.

    Raises:
        InvalidInput: `source` cannot be read or has no usable row, or the target cannot be replaced.
        ModelFailed: the embedder failed, or returned numbers that are not finite.
        IndexUnavailable: the engine cannot write.
    """
    started = time.monotonic()
    with target as writer, tempfile.TemporaryDirectory(prefix=f".{rejects.name}.", dir=rejects.parent) as folder:
        report = Path(folder) / "rejects.jsonl"
        with report.open("w", encoding="utf-8") as file:
            rejected = await fill(writer, file)
        place(report, rejects, rejected)
        items = writer.items
        if not items:
            raise InvalidInput(f"{source} has no usable row" + (f": see {rejects}" if rejected else ""))
        writer.finish(manifest(items))
    return BuildReport(items, rejected, rejects if rejected else None, time.monotonic() - started, Counts(embedded=items))


def manifest_of(source: Path, dimensions: int, embedder_name: str, quantisation: str) -> Callable[[int], Manifest]:
    """The manifest of an index of `source` by the number of its items."""

    def manifest(items: int) -> Manifest:
        return Manifest(
            dimensions, embedder_name, items, now(), source.name, quantisation=quantisation, passages=passage_digest()
        )

    return manifest


def embedding_here(source: Path, embed: Embed, dimensions: int, progress: Progress) -> Fill:
    """Rows of `source` embedded by `embed`."""

    async def fill(writer: WholeWriter, rejects: TextIO) -> int:
        return await fill_from(Filling(writer, embed, dimensions), source, rejects, progress, estimate_rows(source))

    return fill


def embedding_on_ray(source: Path, rows: Iterable[EmbeddedRows], dimensions: int, progress: Progress) -> Fill:
    """Rows of `source` that `ray_engine.embedded_rows` read and embedded; longer embeddings are shortened."""

    async def fill(writer: WholeWriter, rejects: TextIO) -> int:
        total, done, rejected = estimate_rows(source), 0, 0
        progress(0, total)
        for batch in rows:
            if not np.isfinite(batch.vectors).all():
                raise ModelFailed("the embedder returned numbers that are not finite")
            if batch.items:
                writer.add(batch.items, shorten(batch.vectors, dimensions))
            for row in batch.rejected:
                rejects.write(json.dumps({"line": row.line, "reason": row.reason}, ensure_ascii=False) + "\n")
            rejected += len(batch.rejected)
            done += len(batch.items) + len(batch.rejected)
            progress(done, None if total is None else max(done, total))
        progress(done, done)
        return rejected

    return fill
