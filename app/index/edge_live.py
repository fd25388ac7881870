"""The embedded vector index, changed while it answers. What is acknowledged survives `kill -9` (ADR 12)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import qdrant_edge as qdrant

from app.domain import Item
from app.errors import IndexUnavailable
from app.index.edge import EdgeIndex
from app.index.edge_earlier import Held, held
from app.index.edge_engine import border
from app.index.edge_recovery import CHUNK, Change, Opened, checkpoint, open_shard
from app.index.schema import point_id, to_item

SAME = 1e-4  # difference in a dimension that is rounding
CHECKPOINT_BYTES = 16 * 1024 * 1024  # of journal: about 10 000 items, applied again in some seconds at the next start


class LiveEdgeIndex(EdgeIndex):
    """`WritableIndex` over a directory that `build_index` wrote; nobody else may have it open meanwhile."""

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        assert opened.journal is not None
        self._journal = opened.journal
        self._directory = opened.directory
        self._coded: list[int] = []  # points that got codes since the last checkpoint
        self._items: int | None = opened.manifest.items  # None after a failure, until a checkpoint has counted them
        self._writing = asyncio.Lock()

    @classmethod
    def open(cls, path: Path, owner: int | None = None) -> LiveEdgeIndex:
        """Open the index at `path` to read and change it, after finishing what a killed process left undone.

        Args:
            owner: id of the process that others are told to stop, when it is not this one.

        Raises:
            IndexUnavailable: as `EdgeIndex.open`.
            SetupError: another process has it open.
        """
        with open_shard(path, alone=True, owner=owner).or_closed() as opened:
            return cls(opened)

    async def get(self, ids: Sequence[str]) -> list[Item]:
        """See `WritableIndex.get`."""
        found: list[Item] = []
        for at in range(0, len(ids), CHUNK):
            if at:
                await asyncio.sleep(0)
            points: list[qdrant.PointId] = [point_id(one) for one in ids[at : at + CHUNK]]
            with border("the index cannot be read"):
                records = self._open_shard().retrieve(points, True, False)
            found += [to_item(record.payload or {}) for record in records]
        return found

    async def upsert(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """See `WritableIndex.upsert`; of several items with one id the last counts."""
        if vectors.shape != (len(items), self.dimensions):
            raise IndexUnavailable(f"vectors of shape {vectors.shape} for {len(items)} items of {self.dimensions} dimensions")
        last = {item.id: at for at, item in enumerate(items)}
        distinct = [items[at] for at in last.values()]
        await asyncio.shield(self._change(distinct, vectors[list(last.values())], ()))

    async def delete(self, ids: Sequence[str]) -> None:
        """See `WritableIndex.delete`."""
        await asyncio.shield(self._change((), np.empty((0, self.dimensions), np.float32), list(dict.fromkeys(ids))))

    async def close(self) -> None:
        """Finish what is being written, make it final and release the files. Idempotent."""
        async with self._writing:
            if self._shard is not None:
                try:
                    self._checkpoint()
                finally:
                    self._journal.close()
                    await super().close()

    async def _change(self, upserted: Sequence[Item], vectors: npt.NDArray[np.float32], deleted: Sequence[str]) -> None:
        """Journal, then apply; not to be cancelled half way."""
        async with self._writing:
            shard = self._open_shard()
            if self._items is None:
                self._checkpoint()
            known = await self._held([*(item.id for item in upserted), *deleted])
            items = (self._items or 0) + (len(upserted) - len(known) if upserted else -len(known))
            change = Change(upserted, vectors, deleted, items)
            before = await asyncio.to_thread(self._journal.append, change.encode())
            if self._codes is not None:  # first, for a change may stop half way: codes of no point do no harm
                numbers = [point_id(item.id) for item in upserted]
                uncoded = [row for row, number in enumerate(numbers) if not same(known.get(number), vectors[row])]
                points = [numbers[row] for row in uncoded]
                self._codes.add(np.array(points, np.int64), vectors[uncoded])
                self._coded += points
            try:
                for _ in change.apply(shard):
                    await asyncio.sleep(0)
            except IndexUnavailable:
                self._items = None
                self._journal.rollback(before)
                raise
            finally:
                for item_id in (*(item.id for item in upserted), *deleted):
                    self._entries.pop(point_id(item_id), None)
            self._items = items
            if self._journal.size > CHECKPOINT_BYTES:
                self._checkpoint()

    async def _held(self, ids: Sequence[str]) -> dict[int, Held]:
        """What it holds of these items, by point; unknown ones are left out."""
        found: dict[int, Held] = {}
        for at in range(0, len(ids), CHUNK):
            if at:
                await asyncio.sleep(0)
            found |= held(self._open_shard(), [point_id(one) for one in ids[at : at + CHUNK]])
        return found

    def _checkpoint(self) -> None:
        shard = self._open_shard()
        if self._journal.size or self._items is None:
            self.manifest = checkpoint(self._directory, self.manifest, shard, self._journal, self._coded)
            self._coded.clear()
        self._items = self.manifest.items


def same(known: Held | None, vector: npt.NDArray[np.float32]) -> bool:
    """Whether a point has this vector already, and so a code of it: another popularity needs no other."""
    return known is not None and bool(np.abs(known.vector - vector).max() <= SAME)
