"""The embedded vector index: Qdrant's engine in this process. `edge*.py` alone import it.

The extension keeps Python's global interpreter lock for the whole of a call (measured with qdrant-edge-py 0.9: a thread
that ticks every 0.5 ms stood still for the 107 ms of a 200-query batch). Threads would not keep the event loop free, only
add a hop; a query takes about 0.8 ms with its ranking (3 250 items, two busy cores), so it runs in the loop, and a long
batch gives way between chunks of `CHUNK` queries.

The sides of a query are asked in one batch without payloads and fused in Python, which tells what found a hit. On 18 900
items, two sides: 0.21 ms for the batch and 0.09 ms for 50 payloads, against 0.41 ms for the engine's own RRF with payloads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import qdrant_edge as qdrant

from app.domain import Filters, Hit, IndexQuery, Item
from app.errors import IndexUnavailable
from app.index.edge_engine import border, sparse_vector
from app.index.fusion import Ranked
from app.index.manifest import Manifest
from app.index.ngrams import encode_name, encode_tags
from app.index.ranking import Sides, rank, shortlist
from app.index.schema import DENSE, NAME, TAGS, name_key, to_item
from app.text import fold

CHUNK = 8  # queries between two turns of the event loop, 3–6 ms
OVER_FETCH = 4  # candidates for each hit asked for
MIN_CANDIDATES = 50
PAGE = 512  # items a scroll


class EdgeIndex:
    """`VectorIndex` over a directory that `build_index` wrote. Any number may be open on one directory."""

    def __init__(self, shard: qdrant.EdgeShard, manifest: Manifest) -> None:
        self.manifest = manifest
        self._shard: qdrant.EdgeShard | None = shard

    @classmethod
    def open(cls, path: Path) -> EdgeIndex:
        """Open the index at `path`; what is opened stays readable when a rebuild replaces it.

        The engine rewrites small files of its own when it opens a directory (each by rename), so that must be writable.

        Raises:
            IndexUnavailable: there is no index, another version wrote it, or its files are damaged or cannot be written.
        """
        while True:
            directory = path.resolve()  # once: manifest and files must come from one version
            try:
                manifest = Manifest.read(directory)
                with border(f"the index {path} cannot be opened"):
                    shard = qdrant.EdgeShard.load(str(directory / "shard"))
                    held = shard.count(qdrant.CountRequest(exact=True))
                if held != manifest.items:
                    raise IndexUnavailable(
                        f"the index {path} is damaged: it holds {held} of {manifest.items} items; build it again"
                    )
                return cls(shard, manifest)
            except IndexUnavailable:
                if path.resolve() == directory:  # otherwise a rebuild replaced it meanwhile: take the new one
                    raise

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
        shard = self._open_shard()
        sizes = [max(MIN_CANDIDATES, OVER_FETCH * query.limit) for query in queries]
        asked = [_requests(query, size) for query, size in zip(queries, sizes, strict=True)]
        with border("the index cannot be queried"):
            found = iter(shard.query_batch(qdrant.QueryBatchRequest([r for requests in asked for r in requests.values()])))
            sides = [Sides(**{side: _ranked(next(found)) for side in requests}) for requests in asked]
            fused = [shortlist(side, size) for side, size in zip(sides, sizes, strict=True)]
            points: list[qdrant.PointId] = list({point for one in fused for point in one})
            records = {cast(int, record.id): record.payload or {} for record in shard.retrieve(points, True, False)}
        return [
            rank(query.text, side, one, {point: records[point] for point in one}, query.limit)
            for query, side, one in zip(queries, sides, fused, strict=True)
        ]

    async def count(self) -> int:
        """See `VectorIndex.count`."""
        with border("the index cannot be counted"):
            return self._open_shard().count(qdrant.CountRequest(exact=True))

    def items(self) -> Iterator[Item]:
        """See `VectorIndex.items`; `PAGE` items are read at a time."""
        offset: Any = None
        while True:
            with border("the index cannot be read"):
                records, offset = self._open_shard().scroll(qdrant.ScrollRequest(offset=offset, limit=PAGE, with_payload=True))
            for record in records:
                yield to_item(record.payload or {})
            if offset is None:
                return

    async def close(self) -> None:
        """See `VectorIndex.close`."""
        shard, self._shard = self._shard, None
        if shard is not None:
            with border("the index cannot be closed"):
                shard.close()

    def _open_shard(self) -> qdrant.EdgeShard:
        if self._shard is None:
            raise IndexUnavailable("the index is closed")
        return self._shard


def _requests(query: IndexQuery, size: int) -> dict[str, qdrant.QueryRequest]:
    """One request for each side of `Sides` that the query can ask, `size` candidates each."""
    conditions = _conditions(query.filters)
    condition = qdrant.Filter(must=conditions) if conditions else None
    requests: dict[str, qdrant.QueryRequest] = {}
    if query.vector is not None:
        nearest = qdrant.Query.Nearest(query.vector.tolist(), using=DENSE)
        requests["meaning"] = qdrant.QueryRequest(limit=size, query=nearest, filter=condition)
    if query.text:
        text = fold(query.text)
        for side, using, encoded in (("name", NAME, encode_name(text)), ("tags", TAGS, encode_tags(text))):
            nearest = qdrant.Query.Nearest(sparse_vector(encoded), using=using)
            requests[side] = qdrant.QueryRequest(limit=size, query=nearest, filter=condition)
        key = qdrant.MatchValue(name_key(text))
        bears = [qdrant.FieldCondition(field, match=key) for field in ("title_names", "artist_names")]
        same = qdrant.Filter(must=conditions, should=list(bears))
        by_fame = qdrant.OrderBy("popularity", qdrant.Direction.Desc)
        requests["same_name"] = qdrant.QueryRequest(limit=size, query=by_fame, filter=same)
    return requests


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
