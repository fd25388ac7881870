"""The retrieval table: each side of the index alone, fused, and the whole search."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from app.domain import Filters, Hit, IndexQuery
from app.embedder import Embedder
from app.index.build import build_index
from app.index.edge import EdgeIndex
from app.lexicon import Lexicon
from app.search import SearchService, merge
from app.settings import Settings
from app.text import fold
from training.evaluation import cases
from training.evaluation.cases import SEED, Case
from training.evaluation.spelling import build_speller
from training.local import LocalBackend

LIMIT = 10
Find = Callable[[str], Awaitable[Sequence[Hit]]]


@asynccontextmanager
async def demo_index(embedder: Embedder) -> Any:
    """The demo catalogue indexed with these weights, in a directory that goes again."""

    async def embed(passages: list[str]) -> Any:
        parts = [await embedder.embed_batch(passages[i : i + 64]) for i in range(0, len(passages), 64)]
        return np.stack([vector for part in parts for vector in part])

    with tempfile.TemporaryDirectory() as folder:
        dimensions = len(await embedder.embed("probe"))
        await build_index(cases.DEMO, Path(folder) / "index", embed, dimensions, "evaluated", lambda done, total: None)
        index = EdgeIndex.open(Path(folder) / "index")
        yield index
        await index.close()


def ways(index: EdgeIndex, embedder: Embedder, service: SearchService) -> dict[str, Find]:
    """What is compared, by name."""

    async def ask(query: str, *, words: bool, meaning: bool) -> list[Hit]:
        vector = await embedder.embed(query) if meaning else None
        (hits,) = await index.query([IndexQuery(fold(query) if words else "", vector, LIMIT, Filters())])
        return merge(hits, [], None)

    async def whole(query: str) -> Sequence[Hit]:
        return (await service.search(query, LIMIT, Filters())).hits

    return {
        "dense alone": lambda q: ask(q, words=False, meaning=True),
        "sparse alone": lambda q: ask(q, words=True, meaning=False),
        "fused": lambda q: ask(q, words=True, meaning=True),
        "fused and corrected": whole,
    }


async def recall(find: Find, asked: Sequence[Case], depth: int) -> float:
    """Share of cases with a right item among the first `depth` hits."""
    found = [any(hit.item.id in case.right for hit in list(await find(case.typed))[:depth]) for case in asked]
    return sum(found) / len(found)


async def precision(find: Find, wanted: Sequence[dict[str, Any]]) -> float:
    """Mean share of the first ten hits that answer a semantic query."""
    shares = [sum(cases.matches(hit.item, w) for hit in list(await find(w["query"]))[:LIMIT]) / LIMIT for w in wanted]
    return sum(shares) / len(shares)


async def retrieval_table(backend: LocalBackend, settings: Settings) -> list[str]:
    """Markdown lines."""
    items = cases.demo_items()
    embedder = Embedder(backend, timeout_s=60, max_in_flight=1, max_queue=4096)
    speller = build_speller(backend, Lexicon(items), settings)
    clean, one = cases.name_cases(items, 500, 0, SEED + 1), cases.name_cases(items, 500, 1, SEED)
    two = cases.name_cases(items, 300, 2, SEED + 2)
    lines = [
        "| | clean: in first 10 | one typo: in first 10 | two typos: in first 10 | one typo: first | semantic: precision@10 |",
        "|---|---|---|---|---|---|",
    ]
    async with demo_index(embedder) as index:
        service = SearchService(speller, embedder, index, deadline_s=30)
        for name, find in ways(index, embedder, service).items():
            figures = [await recall(find, asked, LIMIT) for asked in (clean, one, two)] + [await recall(find, one, 1)]
            semantic = await precision(find, cases.semantic_queries())
            lines.append(f"| {name} | " + " | ".join(f"{f:.1%}" for f in figures) + f" | {semantic:.2f} |")
    return lines
