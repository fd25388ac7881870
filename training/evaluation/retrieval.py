"""The retrieval table: each side of the index alone, fused, and the whole search."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

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
from training.evaluation.markdown import decimal, percent, table
from training.evaluation.methods import build_speller
from training.evaluation.names import Names
from training.local import LocalBackend

LIMIT = 10
INTRO = (
    "The demo catalogue: seeded typos and clean names as in the section on spelling, and the queries of "
    "`tests/semantic_queries.jsonl`. The baselines are the sides of the index alone; the last row is the whole search."
)
CAVEAT = (
    "Read the semantic column as optimistic: some of these queries had been seen when the phrases of "
    "`training/embedder/phrases.json` were written, a few share words with them, and the shipped embedder was "
    "chosen over its predecessor by this table."
)
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


async def retrieval_body(backend: LocalBackend, settings: Settings, progress: Progress, *, quick: bool = False) -> str:
    """Markdown of the section `Retrieval`."""
    items = cases.demo_items()
    lexicon = Lexicon(items)
    names = Names(items, lexicon.is_name)
    one_count, two_count = (40, 30) if quick else (500, 300)
    clean, one = cases.name_cases(names, one_count, 0, SEED + 2), cases.name_cases(names, one_count, 1, SEED)
    two = cases.name_cases(names, two_count, 2, SEED + 1)
    semantic = cases.semantic_queries()[: 10 if quick else None]
    embedder = Embedder(backend, timeout_s=60, max_in_flight=1, max_queue=4096)
    speller = build_speller(backend, lexicon, settings)
    rows = []
    async with demo_index(embedder) as index:
        service = SearchService(speller, embedder, index, deadline_s=30)
        found = ways(index, embedder, service)
        task = progress.add_task("retrieval", total=len(found))
        for name, find in found.items():
            progress.update(task, description=f"retrieval · {name}")
            figures = [await recall(find, asked, LIMIT) for asked in (clean, one, two)] + [await recall(find, one, 1)]
            rows.append([name, *map(percent, figures), decimal(await precision(find, semantic))])
            progress.advance(task)
    header = (
        "", f"clean ({len(clean)}): in first 10", f"one typo ({len(one)}): in first 10", f"two typos ({len(two)}): in first 10",
        "one typo: first", f"semantic ({len(semantic)}): precision@10",
    )  # fmt: skip
    return "\n".join([INTRO, "", *table(header, rows), CAVEAT])
