"""What the service asks of a vector index: the Protocol that the embedded and the clustered adapter fulfil."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from app.domain import Hit, IndexQuery, Item


class VectorIndex(Protocol):
    """Hybrid retrieval over catalogue items. Implementations: `index/edge.py` (in process), `fakes.FakeIndex`."""

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

    def items(self) -> Iterator[Item]:
        """All items, in no particular order: what the lexicon is built from."""

    async def close(self) -> None:
        """Release files and memory. Idempotent."""
