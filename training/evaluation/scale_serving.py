"""What an index of many rows costs to ask: run as a process of its own, so that its memory is the index's and nothing else's.

python -m training.evaluation.scale_serving INDEX ROWS   → one JSON object on standard output
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.completion import Completions
from app.domain import Filters, IndexQuery, Item
from app.index.edge import EdgeIndex
from app.index.edge_earlier import EarlierVersion
from app.index.encoder import PassageEncoder
from app.index.ranking import MIN_CANDIDATES
from app.index.schema import point_id
from app.index.vectors import shorten
from app.lexicon import Lexicon
from app.settings import Settings
from app.text import fold
from training.evaluation.cases import demo_items
from training.evaluation.scale_catalogue import synthetic_items
from training.noise import corrupt

SEED = 20_260_400
WARM_UP, TIMED, COMPARED = 200, 1_000, 200
LIMIT = 10  # hits asked for, and the depth of recall
CHUNK = 2_000  # vectors compared at a time
TIE = 1e-5  # difference of scores that is rounding
WORDS = 50_000  # items whose lexicon is weighed


@dataclass(frozen=True, slots=True)
class Asked:
    """A query.

    Attributes:
        sort: clean, typo or tags.
        genre: of the item that it was made from, which is asked for where queries are filtered; empty where it has none.
    """

    text: str
    sort: str
    genre: str


def draw_queries(items: Sequence[Item], count: int, seed: int) -> list[Asked]:
    """Two fifths titles, artists and pairs of both as they are, two fifths with one typing error, one fifth tags."""
    rng = random.Random(seed)
    asked = []
    for number in range(count):
        item = rng.choice(items)
        genre = item.genres[0] if item.genres else ""
        if number % 5 == 4:
            asked.append(Asked(fold(" ".join((*item.moods[:1], *item.genres[:1], "songs"))), "tags", genre))
            continue
        name = fold(rng.choice((item.title, item.artist or item.title, f"{item.title} {item.artist}")))
        asked.append(Asked(corrupt(name, rng, 1), "typo", genre) if number % 2 else Asked(name, "clean", genre))
    rng.shuffle(asked)
    return asked


def memory() -> dict[str, int]:
    """Bytes of this process: resident, of these not backed by a file, and the peak of the former."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon", "VmHWM")}


async def ask(index: EdgeIndex, queries: Sequence[IndexQuery]) -> tuple[list[float], float]:
    """Milliseconds of each query asked alone, and processor seconds of all."""
    waits = []
    busy = time.process_time()
    for query in queries:
        started = time.perf_counter()
        await index.query([query])
        waits.append((time.perf_counter() - started) * 1e3)
    return waits, time.process_time() - busy


def brute_force(directory: Path, points: Sequence[int], vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """For each vector the score of the `LIMIT`-th nearest of all points, float32 [vectors], from comparing all in numpy."""
    earlier = EarlierVersion(directory)
    best = np.full((len(vectors), LIMIT), -np.inf, np.float32)
    for start in range(0, len(points), CHUNK):
        held = earlier.held(points[start : start + CHUNK])
        scores = np.concatenate([best, vectors @ np.stack([one.vector for one in held.values()]).T], axis=1)
        best = -np.partition(-scores, LIMIT - 1, axis=1)[:, :LIMIT]
    earlier.close()
    return np.asarray(best.min(axis=1), np.float32)


async def measure(directory: Path, rows: int) -> dict[str, Any]:
    """The figures, by name."""
    asked = draw_queries(list(islice(synthetic_items(demo_items(), rows, SEED), 50_000)), WARM_UP + TIMED, SEED + 1)
    encoder = PassageEncoder(Settings().model_repository, threads=1)
    embedded = np.stack([(await encoder.embed([query.text]))[0] for query in asked[:WARM_UP]])
    started = time.perf_counter()
    rest = [(await encoder.embed([query.text]))[0] for query in asked[WARM_UP:]]
    embed_ms = (time.perf_counter() - started) * 1e3 / TIMED
    encoder.close()
    vectors = np.concatenate([embedded, np.stack(rest)])
    before, started = memory(), time.perf_counter()
    index = EdgeIndex.open(directory)
    opening_s = time.perf_counter() - started
    vectors = shorten(vectors, index.dimensions)
    queries = [IndexQuery(query.text, vector, LIMIT) for query, vector in zip(asked, vectors, strict=True)]
    await ask(index, queries[:WARM_UP])
    waits, busy_s = await ask(index, queries[WARM_UP:])
    after = memory()
    filtered, _ = await ask(
        index, [replace(q, filters=Filters(genres=(a.genre,))) for q, a in zip(queries, asked, strict=True) if a.genre]
    )
    found = [[score for _, score in index.nearest(vector, MIN_CANDIDATES)[:LIMIT]] for vector in vectors[:COMPARED]]
    first: list[Item] = []
    async for item in index.items():
        if len(first) == WORDS:
            break
        first.append(item)
    words = words_of(first)
    await index.close()
    by_sort = {
        sort: [wait for wait, query in zip(waits, asked[WARM_UP:], strict=True) if query.sort == sort]
        for sort in ("clean", "typo", "tags")
    }
    points = [point_id(item.id) for item in synthetic_items(demo_items(), rows, SEED)]
    least = await asyncio.to_thread(brute_force, directory, points, vectors[:COMPARED])
    return {
        "opening_s": opening_s,
        "embed_ms": embed_ms,
        "query_ms": {sort: percentiles(some) for sort, some in {"all": waits, **by_sort, "filtered": filtered}.items()},
        "query_cpu_s": busy_s / TIMED,
        "resident": after["VmRSS"],
        "anonymous": after["RssAnon"] - before["RssAnon"],
        "process": before["VmRSS"],
        "words": words,
        # By score, for items of the same words are equally near and any of them is right.
        "recall": float(np.mean([np.sum(np.array(one) >= bar - TIE) / LIMIT for one, bar in zip(found, least, strict=True)])),
    }


def words_of(items: list[Item]) -> dict[str, float]:
    """What the gateway's lexicon and completions of these items take: bytes an item, and seconds."""
    gc.collect()
    before, started = memory()["RssAnon"], time.perf_counter()
    kept = Lexicon(items), Completions(items)
    seconds = time.perf_counter() - started
    gc.collect()
    grown = memory()["RssAnon"] - before
    del kept
    return {"items": len(items), "bytes": grown / len(items), "seconds": seconds}


def percentiles(waits: Sequence[float]) -> list[float]:
    """p50, p90 and p99."""
    return [float(one) for one in np.percentile(waits, (50, 90, 99))]


if __name__ == "__main__":
    json.dump(asyncio.run(measure(Path(sys.argv[1]), int(sys.argv[2]))), sys.stdout)
