"""How much memory an index takes: a fresh process opens it, asks it, and tells by how much it grew.

In the process that evaluates, what one index leaves behind would be counted as the next one's thrift.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain import IndexQuery, Item
from app.index.edge import EdgeIndex
from app.lexicon import Lexicon
from app.text import fold
from training.evaluation.retrieval_baselines import BASELINES
from training.evaluation.retrieval_measure import DEPTH

INDEX, LEXICON = "index", "lexicon"


def write_items(items: Iterable[Item], path: Path) -> None:
    """Items as a JSON Lines catalogue, which `searchbar index` and `stored_items` read; their extra columns are left out."""
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            row = {name: getattr(item, name) for name in Item.__slots__ if name != "extra"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def stored_items(path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield Item(**{**row, "genres": tuple(row["genres"]), "moods": tuple(row["moods"])})


def grown_mib(
    which: str, catalogue: Path, folder: Path, queries: Sequence[str], vectors: Sequence[npt.NDArray[np.float32]] = ()
) -> float:
    """MiB by which a process grows that holds the items, opens or builds `which`, and asks it `queries`.

    Args:
        which: `INDEX` (at ``folder / "index"``), `LEXICON`, or the name of a baseline.
        catalogue: the items, as `write_items` wrote them.
        folder: a baseline's files go there.
        vectors: of the queries, for `INDEX`.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grow, which, catalogue, folder, list(queries), list(vectors)).result()


def _grow(which: str, catalogue: Path, folder: Path, queries: list[str], vectors: list[npt.NDArray[np.float32]]) -> float:
    items = list(stored_items(catalogue))
    gc.collect()
    before = _resident_mib()
    held = asyncio.run(_open_and_ask(which, items, folder, queries, vectors))
    gc.collect()
    grown = _resident_mib() - before
    del held
    return grown


async def _open_and_ask(
    which: str, items: list[Item], folder: Path, queries: list[str], vectors: list[npt.NDArray[np.float32]]
) -> object:
    if which == LEXICON:
        lexicon = Lexicon(items)
        for query in queries:
            lexicon.candidates(fold(query), 4)
        return lexicon
    if which == INDEX:
        index = EdgeIndex.open(folder / "index")
        for query, vector in zip(queries, vectors, strict=True):
            await index.query([IndexQuery(fold(query), vector, DEPTH)])
        return index
    baseline = BASELINES[which](items, folder)
    for query in queries:
        await baseline(query)
    return baseline


def _resident_mib() -> float:
    """Physical memory of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
