"""Our own rows of the retrieval tables: an index built for the run, each of its sides alone, fused, and the whole search."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.completion import Completions
from app.domain import Filters, IndexQuery, Item
from app.embedder import Embedder
from app.index.base import VectorIndex
from app.index.build import build_index
from app.index.edge import EdgeIndex
from app.lexicon import Lexicon
from app.near_names import NearNames
from app.search import SearchService, merge
from app.settings import Settings
from app.text import fold
from training.evaluation.methods import build_speller
from training.evaluation.retrieval_measure import DEPTH, Find
from training.local import LocalBackend

DENSE, SPARSE, FUSED, WHOLE = "dense only", "sparse only", "fused", "fused and corrected"
EMBEDDED_AT_ONCE = 64
DEADLINE_S = 30.0


class Embeddings:
    """`app.index.build.Embed` over an embedder: texts of like length go together, so that little padding is computed."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def __call__(self, passages: list[str]) -> npt.NDArray[np.float32]:
        order = sorted(range(len(passages)), key=lambda at: len(passages[at]))
        vectors: list[Any] = [None] * len(passages)
        for start in range(0, len(order), EMBEDDED_AT_ONCE):
            part = order[start : start + EMBEDDED_AT_ONCE]
            for at, vector in zip(part, await self._embedder.embed_batch([passages[at] for at in part]), strict=True):
                vectors[at] = vector
        return np.stack(vectors)


async def build(catalogue: Path, embedder: Embedder, out: Path, progress: Callable[[int, int | None], None]) -> None:
    """Index a catalogue file at `out`, as `searchbar index` does."""
    dimensions = len(await embedder.embed("probe"))
    await build_index(catalogue, out, Embeddings(embedder), dimensions, "evaluated", progress)


def finders(index: VectorIndex, embedder: Any, service: SearchService, near: NearNames) -> dict[str, Find]:
    """What is compared, by row; `embedder` has `embed` as `SearchService` wants it."""

    async def ask(query: str, *, words: bool, meaning: bool) -> list[str]:
        vector = await embedder.embed(query) if meaning else None
        text = fold(query) if words else ""
        (hits,) = await index.query([IndexQuery(text, vector, DEPTH, Filters(), near(text) if words else None)])
        return [hit.item.id for hit in merge(hits, [], None)]

    async def whole(query: str) -> Sequence[str]:
        return [hit.item.id for hit in (await service.search(query, DEPTH, Filters())).hits]

    return {
        DENSE: lambda q: ask(q, words=False, meaning=True),
        SPARSE: lambda q: ask(q, words=True, meaning=False),
        FUSED: lambda q: ask(q, words=True, meaning=True),
        WHOLE: whole,
    }


@asynccontextmanager
async def our_ways(
    items: Sequence[Item], index_at: Path, embedder: Embedder, backend: LocalBackend, settings: Settings
) -> AsyncIterator[dict[str, Find]]:
    """The four rows over the index of `items` at `index_at`."""
    index = EdgeIndex.open(index_at)
    try:
        lexicon = Lexicon(items)
        speller, near = build_speller(backend, lexicon, settings), NearNames(lexicon, Completions(items))
        yield finders(index, embedder, SearchService(speller, embedder, index, near, deadline_s=DEADLINE_S), near)
    finally:
        await index.close()
