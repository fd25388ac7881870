"""Chunks of items into an index: what the version before holds is taken from there, the rest is embedded meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.domain import KINDS, Item
from app.errors import ModelFailed
from app.index.edge_earlier import Held
from app.index.passage import passage_text
from app.index.schema import point_id, to_item, to_payload
from app.index.vectors import shorten

IN_FLIGHT = 4  # chunks read but not written: enough that no embedding thread waits for the reader or the writer

Vectors = npt.NDArray[np.float32]
Embed = Callable[[list[str]], Awaitable[Vectors]]
"""Passages → L2-normalised embeddings, float32 [passages, dimensions]."""

Lookup = Callable[[Sequence[int]], Mapping[int, Held]]
"""What an index holds of the points with these numbers."""


class Writer(Protocol):
    """Where the items go."""

    def add(self, items: Sequence[Item], vectors: Vectors) -> None:
        """Add items, or replace those of the same id, with their L2-normalised embeddings, float32 [items, dimensions]."""


@dataclass(slots=True)
class Counts:
    """Items by what became of them: embedded, embedding taken over, left as they were."""

    embedded: int = 0
    taken_over: int = 0
    unchanged: int = 0


class Filling:
    """Embeds chunks at the same time and writes them in order; at most `IN_FLIGHT` are held in memory.

    Args:
        dimensions: length of the stored vectors; longer embeddings are shortened.
        earlier: where embeddings of unchanged passages are taken from; None embeds all.
        in_place: `earlier` is the very index that is written to: items it holds as they are are left alone.
    """

    def __init__(
        self, writer: Writer, embed: Embed, dimensions: int, earlier: Lookup | None = None, *, in_place: bool = False
    ) -> None:
        self.counts = Counts()
        self._writer, self._embed, self._dimensions = writer, embed, dimensions
        self._earlier, self._in_place = earlier, in_place
        self._pending: deque[tuple[list[Item], asyncio.Task[Vectors]]] = deque()

    async def take(self, items: list[Item]) -> None:
        """Start on a chunk; first waits for the oldest one when `IN_FLIGHT` are under way.

        Raises:
            ModelFailed: `embed` returned the wrong shape or numbers that are not finite.
            IndexUnavailable: the engine cannot read or write.
        """
        if len(self._pending) == IN_FLIGHT:
            await self._write_oldest()
        held = self._earlier([point_id(item.id) for item in items]) if self._earlier else {}
        if self._in_place:
            changed = [item for item in items if not _same(item, held)]
            self.counts.unchanged += len(items) - len(changed)
            items = changed
        if items:
            self._pending.append((items, asyncio.create_task(self._vectors(items, held))))
            await asyncio.sleep(0)  # let it begin: reading the next chunk does not give way

    async def finish(self) -> None:
        """Write what is under way."""
        while self._pending:
            await self._write_oldest()

    async def abandon(self) -> None:
        """Drop what is under way. Idempotent."""
        tasks = [task for _, task in self._pending]
        self._pending.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _write_oldest(self) -> None:
        items, task = self._pending[0]
        vectors = await task
        self._pending.popleft()
        self._writer.add(items, vectors)

    async def _vectors(self, items: list[Item], held: Mapping[int, Held]) -> Vectors:
        passages = [passage_text(item) for item in items]
        vectors = np.empty((len(items), self._dimensions), np.float32)
        wanted = []
        for row, (item, passage) in enumerate(zip(items, passages, strict=True)):
            found = held.get(point_id(item.id))
            if found is not None and passage_text(to_item(found.payload)) == passage:
                vectors[row] = shorten(found.vector, self._dimensions)
            else:
                wanted.append(row)
        if wanted:
            vectors[wanted] = self._checked(await self._embed([passages[row] for row in wanted]), len(wanted))
        self.counts.embedded += len(wanted)
        self.counts.taken_over += len(items) - len(wanted)
        return vectors

    def _checked(self, embedded: Vectors, count: int) -> Vectors:
        vectors = np.asarray(embedded, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] < self._dimensions:
            raise ModelFailed(f"the embedder returned an array {vectors.shape}, expected {(count, self._dimensions)}")
        if not np.isfinite(vectors).all():
            raise ModelFailed("the embedder returned numbers that are not finite")
        return shorten(vectors, self._dimensions)


def _same(item: Item, held: Mapping[int, Held]) -> bool:
    found = held.get(point_id(item.id))
    return found is not None and found.payload == to_payload(item)


def passage_digest() -> str:
    """A digest of the words in which this program embeds items: it changes when `passage_text` does."""
    probes = [Item("", "title", kind, "artist", "album", 1984, ("genre", "b"), ("mood", "c"), 50.0) for kind in KINDS]
    return blake2b("\n".join(map(passage_text, probes)).encode(), digest_size=4).hexdigest()
