"""The embedded vector index: Qdrant's engine in this process, which is the index's own where the gateway serves it.

`edge*.py` alone import the engine. It keeps Python's global interpreter lock for the whole of a call (measured with
qdrant-edge-py 0.9: a thread that ticks every 0.5 ms stood still for the 107 ms of a 200-query batch). Threads would not keep
the event loop free, only add a hop; a query takes about 0.8 ms with its ranking (3 250 items, two busy cores), so it runs in
the loop, and a long batch gives way between chunks of `CHUNK` queries.

The sides of a query are asked in one batch without payloads and fused in Python, which tells what found a hit. On 18 900
items, two sides: 0.21 ms for the batch and 0.09 ms for 50 payloads, against 0.41 ms for the engine's own RRF with payloads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import qdrant_edge as qdrant

from app.domain import Filters, Hit, IndexQuery, Item, Vector
from app.errors import IndexUnavailable
from app.index.codes import Codes, added
from app.index.edge_earlier import held
from app.index.edge_engine import border, sparse_vector
from app.index.edge_recovery import Opened, has_graphs, items_in, open_shard
from app.index.entry import Entry
from app.index.frequent import FEWEST, FEWEST_TAGS, Frequent
from app.index.fusion import Ranked
from app.index.ngrams import encode_name, encode_tags
from app.index.ranking import MIN_CANDIDATES, OVER_FETCH, Sides, rank, shortlist
from app.index.schema import DENSE, NAME, TAGS, name_key, to_item
from app.index.vectors import shorten
from app.text import fold

CHUNK = 8  # queries between two turns of the event loop, 3–6 ms
PAGE = 512  # items a scroll
ENTRIES = 10_000  # points whose payload is kept as ranking reads it, 2 kB each: fetching 50 took longer than finding them
# Of quantised vectors twice as many candidates as are wanted are scored again in full; others are not concerned.
PARAMS = qdrant.SearchParams(quantization=qdrant.QuantizationSearchParams(rescore=True, oversampling=2.0))
EXACT = qdrant.SearchParams(exact=True)
AHEAD = 128 * 1024  # bytes that the kernel is asked to read at a time: what it reads ahead by itself, unless told otherwise
CANDIDATES = 2  # points scored in full for each that is wanted, where codes choose them
SPARE = 1.5  # times as many as should suffice, where a filter leaves too few;
MOST_CANDIDATES = 1_000  # if these are more, all that pass are compared: a candidate costs some thirty times as much


class EdgeIndex:
    """`VectorIndex` over a directory that `build_index` wrote. Any number may be open on one directory.

    A large one has codes, which choose what the dense side scores; without them it compares a query with all vectors.
    """

    def __init__(self, opened: Opened) -> None:
        """Raises IndexUnavailable when files beside the engine's are damaged; `opened` is left to the caller then."""
        self.manifest = opened.manifest
        self._shard: qdrant.EdgeShard | None = opened.shard
        self._lock = opened.lock
        read_ahead(opened.directory)
        self._frequent = Frequent.read(opened.directory, opened.manifest.items)
        self._codes = codes_of(opened)
        self._params = EXACT if has_graphs(opened.directory) else PARAMS
        self._entries: dict[int, Entry] = {}

    @classmethod
    def open(cls, path: Path) -> EdgeIndex:
        """Open the index at `path`; what is opened stays readable when a rebuild replaces it.

        The engine rewrites small files of its own when it opens a directory (each by rename), so that must be writable.

        Raises:
            IndexUnavailable: there is no index, another version wrote it, or its files are damaged or cannot be written.
            SetupError: another process changes it in place.
        """
        with open_shard(path, alone=False).or_closed() as opened:
            return cls(opened)

    @property
    def dimensions(self) -> int:
        """Length of the dense vectors."""
        return self.manifest.dimensions

    async def query(self, queries: Sequence[IndexQuery]) -> list[list[Hit]]:
        """See `VectorIndex.query`."""
        answers: list[list[Hit]] = []
        for at in range(0, len(queries), CHUNK):
            if at:
                await asyncio.sleep(0)
            answers += self._answer(queries[at : at + CHUNK])
        return answers

    def _answer(self, queries: Sequence[IndexQuery]) -> list[list[Hit]]:
        sizes = [max(MIN_CANDIDATES, OVER_FETCH * query.limit) for query in queries]
        with border("the index cannot be queried"):
            sides = self._sides(queries, sizes)
            fused = [shortlist(side, size, q.names) for side, size, q in zip(sides, sizes, queries, strict=True)]
            points = {point for one in fused for point in one}
            entries = self._entries_of(points)
        return [
            rank(query, side, one, {point: entries[point] for point in one})
            for query, side, one in zip(queries, sides, fused, strict=True)
        ]

    def _sides(self, queries: Sequence[IndexQuery], sizes: Sequence[int]) -> list[Sides]:
        """What each side found for each query."""
        if self._codes is None:
            return self._asked([self._requests(query, size) for query, size in zip(queries, sizes, strict=True)])
        words = [self._requests(query, size, dense=False) for query, size in zip(queries, sizes, strict=True)]
        meanings = self._meanings(self._codes, queries, sizes)
        return [replace(side, meaning=meaning) for side, meaning in zip(self._asked(words), meanings, strict=True)]

    def _asked(self, requests: Sequence[dict[str, qdrant.QueryRequest]]) -> list[Sides]:
        """The engine's answers to requests, those of one query by side."""
        batch = [request for one in requests for request in one.values()]
        found = iter(self._open_shard().query_batch(qdrant.QueryBatchRequest(batch)) if batch else ())
        return [Sides(**{side: _ranked(next(found)) for side in one}) for one in requests]

    def _meanings(self, codes: Codes, queries: Sequence[IndexQuery], sizes: Sequence[int]) -> list[Ranked]:
        """The dense sides: the points with the nearest codes, scored in full; none where a query has no vector.

        Where fewer of them are left than are wanted, for a filter or because they are gone, as many more are scored as should
        suffice, or else all that pass the filter, which are few then.
        """
        found: dict[int, Ranked] = {at: () for at in range(len(queries))}
        dense = [at for at, query in enumerate(queries) if query.vector is not None]
        candidates = CANDIDATES * max(sizes, default=0)
        found |= self._scored(codes, queries, sizes, dense, candidates)
        enough = {
            at: round(SPARE * candidates * sizes[at] / max(len(found[at]), 1)) for at in dense if len(found[at]) < sizes[at]
        }
        more = [at for at, number in enough.items() if number <= MOST_CANDIDATES]
        found |= self._scored(codes, queries, sizes, more, max((enough[at] for at in more), default=0))
        for at in enough:
            if len(found[at]) < sizes[at]:
                request = self._requests(replace(queries[at], text=""), sizes[at])["meaning"]
                found[at] = _ranked(self._open_shard().query(request))
        return list(found.values())

    def _scored(
        self, codes: Codes, queries: Sequence[IndexQuery], sizes: Sequence[int], which: Sequence[int], candidates: int
    ) -> dict[int, Ranked]:
        """For each of `which` queries the best of those of so many candidates, by codes, that pass, scored in full."""
        if not which:
            return {}
        vectors = np.stack([shorten(cast(Vector, queries[at].vector), self.dimensions) for at in which])
        requests = []
        for at, vector, points in zip(which, vectors, codes.nearest(vectors, candidates), strict=True):
            among = qdrant.HasIdCondition(cast("set[qdrant.PointId]", points))
            nearest = qdrant.Query.Nearest(vector.tolist(), using=DENSE)
            passing = qdrant.Filter(must=[among, *_conditions(queries[at].filters)])
            requests.append(qdrant.QueryRequest(limit=sizes[at], query=nearest, filter=passing, params=EXACT))
        answers = self._open_shard().query_batch(qdrant.QueryBatchRequest(requests))
        return {at: _ranked(ranked) for at, ranked in zip(which, answers, strict=True)}

    def _entries_of(self, points: Collection[int]) -> dict[int, Entry]:
        """The entries of these points, from memory or else from the engine."""
        kept = self._entries
        found = {point: kept[point] for point in points if point in kept}
        missing: list[qdrant.PointId] = [point for point in points if point not in found]
        if missing:
            for record in self._open_shard().retrieve(missing, True, False):
                found[cast(int, record.id)] = kept[cast(int, record.id)] = Entry(record.payload or {})
            while len(kept) > ENTRIES:
                del kept[next(iter(kept))]  # the one that came first
        return found

    def nearest(self, vector: Vector, size: int) -> Ranked:
        """The dense side alone, as `query` asks it: the `size` nearest points, best first."""
        with border("the index cannot be queried"):
            return self._sides([IndexQuery("", vector, size)], [size])[0].meaning

    async def count(self) -> int:
        """See `VectorIndex.count`."""
        return items_in(self._open_shard())

    async def items(self) -> AsyncIterator[Item]:
        """See `VectorIndex.items`; `PAGE` items are read at a time."""
        offset: int | None = None
        while True:
            page, offset = self.page(offset)
            for item in page:
                yield item
            if offset is None:
                return
            await asyncio.sleep(0)

    def page(self, offset: int | None) -> tuple[list[Item], int | None]:
        """`PAGE` items from the point `offset` on, the first ones for None, and the point after them, None after the last."""
        with border("the index cannot be read"):
            records, following = self._open_shard().scroll(qdrant.ScrollRequest(offset=offset, limit=PAGE, with_payload=True))
        return [to_item(record.payload or {}) for record in records], cast("int | None", following)

    async def close(self) -> None:
        """See `VectorIndex.close`."""
        shard, self._shard = self._shard, None
        if shard is not None:
            if self._codes is not None:
                self._codes.close()
            with self._lock, border("the index cannot be closed"):
                shard.close()

    def _requests(self, query: IndexQuery, size: int, *, dense: bool = True) -> dict[str, qdrant.QueryRequest]:
        """One request for each side of `Sides` that the query can ask, `size` candidates each; without `dense`, words alone."""
        conditions = _conditions(query.filters)
        condition = qdrant.Filter(must=conditions) if conditions else None
        requests: dict[str, qdrant.QueryRequest] = {}
        if dense and query.vector is not None:
            nearest = qdrant.Query.Nearest(shorten(query.vector, self.dimensions).tolist(), using=DENSE)
            requests["meaning"] = qdrant.QueryRequest(limit=size, query=nearest, filter=condition, params=self._params)
        if query.text:
            text = fold(query.text)
            tags = self._frequent.without(TAGS, encode_tags(text), FEWEST if query.vector is None else FEWEST_TAGS)
            name = self._frequent.without(NAME, encode_name(text))
            for side, using, features in (("name", NAME, name), ("tags", TAGS, tags)):
                nearest = qdrant.Query.Nearest(sparse_vector(features), using=using)
                requests[side] = qdrant.QueryRequest(limit=size, query=nearest, filter=condition)
            key = qdrant.MatchValue(name_key(text))
            bears = [qdrant.FieldCondition(field, match=key) for field in ("title_names", "artist_names")]
            same = qdrant.Filter(must=conditions, should=list(bears))
            by_fame = qdrant.OrderBy("popularity", qdrant.Direction.Desc)
            requests["same_name"] = qdrant.QueryRequest(limit=size, query=by_fame, filter=same)
            if query.names:
                likely = qdrant.MatchAny([name_key(name) for name, _ in query.names])
                for side, field in (("titled", "title_names"), ("played_by", "artist_names")):
                    named = qdrant.Filter(must=[*conditions, qdrant.FieldCondition(field, match=likely)])
                    requests[side] = qdrant.QueryRequest(limit=size, query=by_fame, filter=named)
        return requests

    def _open_shard(self) -> qdrant.EdgeShard:
        if self._shard is None:
            raise IndexUnavailable("the index is closed")
        return self._shard


def codes_of(opened: Opened) -> Codes | None:
    """The codes of an index, those of points included that came after they were written.

    Raises:
        IndexUnavailable: their file is damaged, or the engine cannot be read.
    """
    codes = Codes.read(opened.directory)
    if codes is not None:
        later = added(opened.directory)
        for start in range(0, len(later), PAGE):
            if still := held(opened.shard, later[start : start + PAGE]):
                codes.add(np.array(list(still)), np.stack([one.vector for one in still.values()]))
    return codes


def read_ahead(directory: Path) -> None:
    """Have the kernel read the files of an index: the engine drops them from the page cache once it has written them.

    Otherwise queries wait for the disk, each some dozens of times, until they have touched every page. It is asked in pieces:
    of a longer one Linux reads the beginning alone (`force_page_cache_ra` in mm/readahead.c).
    """
    for folder, _, files in os.walk(directory):  # which goes round a folder that another process has just taken away
        for file in files:
            with suppress(FileNotFoundError), Path(folder, file).open("rb") as opened:  # another process renames small files
                for start in range(0, os.fstat(opened.fileno()).st_size, AHEAD):
                    os.posix_fadvise(opened.fileno(), start, AHEAD, os.POSIX_FADV_WILLNEED)


def _conditions(filters: Filters) -> list[Any]:
    conditions: list[Any] = []
    if filters.kinds:
        conditions.append(qdrant.FieldCondition("kind", match=qdrant.MatchAny([str(kind) for kind in filters.kinds])))
    if filters.genres:
        conditions.append(qdrant.FieldCondition("genre_keys", match=qdrant.MatchAny([fold(g) for g in filters.genres])))
    if filters.year_gte is not None or filters.year_lte is not None:
        conditions.append(qdrant.FieldCondition("year", range=qdrant.RangeFloat(gte=filters.year_gte, lte=filters.year_lte)))
    return conditions


def _ranked(points: Sequence[qdrant.ScoredPoint]) -> Ranked:
    return [(cast(int, point.id), point.score) for point in points]
