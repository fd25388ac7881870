"""What the service asks of a vector index: the Protocol that the embedded and the clustered adapter fulfil."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.domain import Hit, IndexQuery, Item


class VectorIndex(Protocol):
    """Hybrid retrieval over catalogue items: `index/process.py` over `index/edge.py`, `index/cluster.py`, `fakes.FakeIndex`."""

    @property
    def dimensions(self) -> int:
        """Length of the dense vectors it holds."""

    async def query(self, queries: Sequence[IndexQuery]) -> list[list[Hit]]:
        """One list of hits for each query, best first, at most `limit` long.

        Raises:
            IndexUnavailable: the index is missing, closed or cannot be read.
        """

    async def count(self) -> int:
        """How many items it holds."""

    def items(self) -> AsyncIterator[Item]:
        """All items, in no particular order: what the lexicon is built from."""

    async def close(self) -> None:
        """Release files and memory. Idempotent."""


class WritableIndex(VectorIndex, Protocol):
    """A `VectorIndex` whose items can be changed while it answers; a change is on disk before its call returns."""

    async def get(self, ids: Sequence[str]) -> list[Item]:
        """The items with these ids, in no particular order; unknown ids are left out."""

    async def upsert(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """Add items, or replace those of the same id, with their L2-normalised embeddings, float32 [items, dimensions].

        Raises:
            IndexUnavailable: the engine cannot write; none or some of the items are written, and all may be sent again.
        """

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove the items with these ids; unknown ids are ignored."""
