"""The catalogue changed while it is served: index first, then everything in memory that was made from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.domain import Item
from app.embedder import Embedder
from app.errors import ModelFailed, SearchbarError, UnknownItem
from app.index.base import WritableIndex
from app.index.passage import passage_text
from app.index.readers import Rejected, RowRejected, item_of_line
from app.index.vectors import shorten
from app.speller import Speller

BATCH = 256  # rows of a bulk that are written, and acknowledged, together
EMBEDDED = 64  # passages in one call to the embedder, so that the queries of listeners fit in between
LISTED = 100  # rejected rows that a report names


class Updatable(Protocol):
    """What is kept in memory of the catalogue's names: the lexicon and the completions."""

    def update(self, added: Sequence[Item], removed: Sequence[Item]) -> None:
        """Take in rows and let others go, in place; a row that changed is removed as it was and added as it is."""


@dataclass(slots=True)
class BulkReport:
    """How far a bulk came.

    Attributes:
        upserted: rows on the disk, and so acknowledged.
        rejected: the first `LISTED` rows that are not, and why.
        rejected_total: how many there were of those.
    """

    upserted: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    rejected_total: int = 0

    def reject(self, line: int, reason: str) -> None:
        self.rejected_total += 1
        if len(self.rejected) < LISTED:
            self.rejected.append(Rejected(line, reason))


class LiveCatalogue:
    """Changes to a served catalogue, one at a time; searches go on meanwhile.

    What a call has returned is on the disk, and found, corrected to and completed from then on.
    """

    def __init__(
        self,
        index: WritableIndex,
        embedder: Embedder,
        speller: Speller,
        completions: Updatable,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._speller = speller
        self._completions = completions
        self._forget = forget
        self._writing = asyncio.Lock()

    async def get(self, item_id: str) -> Item:
        """The item with this id.

        Raises:
            UnknownItem: there is none.
            IndexUnavailable: the index cannot be read.
        """
        found = await self._index.get([item_id])
        if not found:
            raise UnknownItem(f"the catalogue has no item {item_id!r}")
        return found[0]

    async def count(self) -> int:
        """How many items there are."""
        return await self._index.count()

    async def upsert(self, items: Sequence[Item]) -> None:
        """Add items, or replace those of the same id; of several with one id the last counts.

        Raises:
            ModelUnavailable, DeadlineExceeded, ModelFailed: they cannot be embedded; nothing has changed.
            IndexUnavailable: the index cannot write; none or some are written, and all may be sent again.
        """
        distinct = list({item.id: item for item in items}.values())
        vectors = await self._embed([passage_text(item) for item in distinct])
        await asyncio.shield(self._change(distinct, vectors))

    async def delete(self, item_id: str) -> None:
        """Remove the item with this id.

        Raises:
            UnknownItem: there is none.
            IndexUnavailable: the index cannot write.
        """
        await asyncio.shield(self._remove(item_id))

    async def upsert_lines(self, lines: AsyncIterable[tuple[int, bytes | None]], report: BulkReport) -> None:
        """Upsert (line number, JSON object) pairs in batches; `report` says how far it came, also when it raises.

        A line of None was too long to be read. Raises what `upsert` and `lines` raise.
        """
        batch: list[Item] = []
        async for number, line in lines:
            try:
                item = item_of_line(line)
            except RowRejected as exc:
                report.reject(number, str(exc))
                continue
            if item is not None:
                batch.append(item)
            if len(batch) == BATCH:
                await self.upsert(batch)
                report.upserted += len(batch)
                batch = []
        if batch:
            await self.upsert(batch)
            report.upserted += len(batch)

    async def _embed(self, passages: list[str]) -> npt.NDArray[np.float32]:
        found = [
            np.stack(await self._embedder.embed_batch(passages[at : at + EMBEDDED])) for at in range(0, len(passages), EMBEDDED)
        ]
        vectors = np.concatenate(found) if found else np.empty((0, self._index.dimensions), np.float32)
        if vectors.shape[1] < self._index.dimensions or not np.isfinite(vectors).all():
            raise ModelFailed(f"the embedder answered {vectors.shape[1]} numbers a passage, or some that are not finite")
        return shorten(vectors, self._index.dimensions)

    async def _change(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        async with self._writing:
            ids = [item.id for item in items]
            before = await self._index.get(ids)
            try:
                await self._index.upsert(items, vectors)
            except SearchbarError:
                self._took(await self._index.get(ids), before)  # some may be written
                raise
            self._took(items, before)

    async def _remove(self, item_id: str) -> None:
        async with self._writing:
            before = [await self.get(item_id)]
            await self._index.delete([item_id])
            self._took((), before)

    def _took(self, added: Sequence[Item], removed: Sequence[Item]) -> None:
        """The index has changed: so must what was made from it."""
        lexicon: Updatable = self._speller.lexicon
        lexicon.update(added, removed)
        self._completions.update(added, removed)
        self._speller.cache.clear()
        self._forget()
