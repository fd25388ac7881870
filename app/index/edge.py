"""The embedded vector index: Qdrant's engine in this process. The one module that imports it.

The extension keeps Python's global interpreter lock for the whole of a call (measured with qdrant-edge-py 0.9: a thread
that ticks every 0.5 ms stood still for the 107 ms of a 200-query batch). Threads would not keep the event loop free, only
add a hop; a query takes about 0.8 ms with its ranking (3 250 items, two busy cores), so it runs in the loop, and a long
batch gives way between chunks of `CHUNK` queries.

The sides of a query are asked in one batch without payloads and fused in Python, which tells what found a hit. On 18 900
items, two sides: 0.21 ms for the batch and 0.09 ms for 50 payloads, against 0.41 ms for the engine's own RRF with payloads.

The extension raises bare `Exception`s, and panics as `BaseException`s: `_border` makes both `IndexUnavailable`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import qdrant_edge as qdrant

from app.domain import Filters, Hit, IndexQuery, Item
from app.errors import IndexUnavailable
from app.index.fusion import Ranked
from app.index.manifest import Manifest
from app.index.ngrams import Sparse, encode_item_name, encode_item_tags, encode_name, encode_tags
from app.index.ranking import Sides, rank, shortlist
from app.index.schema import DENSE, NAME, TAGS, name_key, point_id, to_item, to_payload
from app.text import fold

CHUNK = 8  # queries between two turns of the event loop, 3–6 ms
OVER_FETCH = 4  # candidates for each hit asked for
MIN_CANDIDATES = 50
PAGE = 512  # items a scroll

_KEYWORD, _INTEGER, _FLOAT = qdrant.PayloadSchemaType.Keyword, qdrant.PayloadSchemaType.Integer, qdrant.PayloadSchemaType.Float
PAYLOAD_INDICES = {"kind": _KEYWORD, "genre_keys": _KEYWORD, "title_names": _KEYWORD, "artist_names": _KEYWORD,
                   "year": _INTEGER, "popularity": _FLOAT}  # fmt: skip


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
                with _border(f"the index {path} cannot be opened"):
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
        with _border("the index cannot be queried"):
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
        with _border("the index cannot be counted"):
            return self._open_shard().count(qdrant.CountRequest(exact=True))

    def items(self) -> Iterator[Item]:
        """See `VectorIndex.items`; `PAGE` items are read at a time."""
        offset: Any = None
        while True:
            with _border("the index cannot be read"):
                records, offset = self._open_shard().scroll(qdrant.ScrollRequest(offset=offset, limit=PAGE, with_payload=True))
            for record in records:
                yield to_item(record.payload or {})
            if offset is None:
                return

    async def close(self) -> None:
        """See `VectorIndex.close`."""
        shard, self._shard = self._shard, None
        if shard is not None:
            with _border("the index cannot be closed"):
                shard.close()

    def _open_shard(self) -> qdrant.EdgeShard:
        if self._shard is None:
            raise IndexUnavailable("the index is closed")
        return self._shard


class EdgeWriter:
    """Writes a new index into an empty directory; `finish` makes it whole.

    Raises:
        IndexUnavailable: the engine cannot write there (every method).
    """

    def __init__(self, directory: Path, dimensions: int) -> None:
        self._directory = directory
        self.items = 0
        sparse = qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)
        config = qdrant.EdgeConfig(
            vectors={DENSE: qdrant.EdgeVectorParams(size=dimensions, distance=qdrant.Distance.Dot)},
            sparse_vectors={NAME: sparse, TAGS: sparse},
            payload_memory=qdrant.Memory.Cached,
            wal_enabled=False,  # a build that dies is thrown away whole
        )
        (directory / "shard").mkdir()
        with _border("the index cannot be created"):
            self._shard = qdrant.EdgeShard.create(str(directory / "shard"), config)

    def add(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """Add items with their L2-normalised embeddings, float32 [items, dimensions]."""
        points = [
            qdrant.Point(
                point_id(item.id),
                {DENSE: vector, NAME: _sparse(encode_item_name(item)), TAGS: _sparse(encode_item_tags(item))},
                to_payload(item),
            )
            for item, vector in zip(items, vectors.tolist(), strict=True)
        ]
        with _border("items cannot be written"):
            self._shard.update(qdrant.UpdateOperation.upsert_points(points))
        self.items += len(points)

    def finish(self, manifest: Manifest) -> None:
        """Index the payload, build the graph, flush, and write the manifest last."""
        with _border("the index cannot be finished"):
            for field, schema in PAYLOAD_INDICES.items():
                self._shard.update(qdrant.UpdateOperation.create_field_index(field, schema))
            self._shard.optimize()
            self._shard.flush()
        manifest.write(self._directory)

    def close(self) -> None:
        """Release the files."""
        with _border("the index cannot be closed"):
            self._shard.close()


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
            nearest = qdrant.Query.Nearest(_sparse(encoded), using=using)
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


def _sparse(encoded: Sparse) -> qdrant.SparseVector:
    return qdrant.SparseVector(encoded.indices, encoded.values)


def _ranked(points: Sequence[qdrant.ScoredPoint]) -> Ranked:
    return [(cast(int, point.id), point.score) for point in points]


@contextmanager
def _border(what: str) -> Iterator[None]:
    """Vendor exceptions become `IndexUnavailable` here."""
    try:
        yield
    except IndexUnavailable:
        raise
    except Exception as exc:
        raise IndexUnavailable(f"{what}: {exc}") from exc
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":  # pyo3 exports no class to name
            raise
        raise IndexUnavailable(f"{what}: the engine gave up ({exc})") from exc
