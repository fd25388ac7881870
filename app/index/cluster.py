"""The index on a Qdrant cluster: the same points, sides and ranking as the embedded one, a server away.

A question takes two round trips: all sides of all queries in one batch without payloads, then the payloads of the points that
are left after fusion. Payloads in the batch would save the second and send each item up to four times, from every shard.

It reads and writes through the alias that names the current version (see `cluster_writer.py`). A rebuild switches the alias, so
that the next question is answered by the new version; what the gateway read at start (the lexicon) stays until it starts again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from qdrant_client import AsyncQdrantClient, models

from app.domain import Filters, Hit, IndexQuery, Item
from app.errors import IndexUnavailable
from app.index.cluster_engine import Connection, border, points, read_manifest, sparse_vector
from app.index.entry import Entry
from app.index.fusion import Ranked
from app.index.manifest import Manifest
from app.index.ngrams import encode_name, encode_tags
from app.index.ranking import MIN_CANDIDATES, OVER_FETCH, Sides, rank, shortlist
from app.index.schema import DENSE, NAME, TAGS, name_key, point_id, to_item
from app.index.vectors import shorten
from app.text import fold

CHUNK = 8  # queries ranked between two turns of the event loop
PAGE = 1000  # items a scroll
OVERSAMPLING = 2.0  # quantised candidates that are scored again with the full vectors, for each wanted


class ClusterIndex:
    """`WritableIndex` over the collection that an alias names.

    Attributes:
        manifest: of the version that the alias named when this was opened.
    """

    def __init__(self, connection: Connection, collection: str, manifest: Manifest, *, quantised: bool) -> None:
        self.manifest = manifest
        self._connection = connection
        self._collection = collection
        self._client: AsyncQdrantClient | None = connection.async_client()
        again = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
        self._params = models.SearchParams(quantization=again) if quantised else None

    @classmethod
    def open(cls, connection: Connection, collection: str) -> ClusterIndex:
        """The index that the alias `collection` names; blocks while the server is asked for it.

        Raises:
            IndexUnavailable: the server is away or refuses the key, there is no such index, or another version wrote it.
        """
        client = connection.client()
        try:
            with border(f"the collection {collection} cannot be opened"):
                info = client.get_collection(collection)
        finally:
            client.close()
        quantised = info.config.quantization_config is not None
        return cls(connection, collection, read_manifest(info, collection), quantised=quantised)

    @property
    def dimensions(self) -> int:
        """Length of the dense vectors."""
        return self.manifest.dimensions

    async def query(self, queries: Sequence[IndexQuery]) -> list[list[Hit]]:
        """See `VectorIndex.query`; a caller that goes away cancels what it asked."""
        client = self._open_client()
        sizes = [max(MIN_CANDIDATES, OVER_FETCH * query.limit) for query in queries]
        with border("the index cannot be queried"):
            asked = [_requests(query, size, self.dimensions, self._params) for query, size in zip(queries, sizes, strict=True)]
            batch = [request for requests in asked for request in requests.values()]
            found = iter(await client.query_batch_points(self._collection, batch) if batch else ())
            sides = [Sides(**{side: _ranked(next(found).points) for side in requests}) for requests in asked]
            fused = [shortlist(side, size, q.names) for side, size, q in zip(sides, sizes, queries, strict=True)]
            payloads = await self._payloads(client, list({point for one in fused for point in one}))
        answers: list[list[Hit]] = []
        for at, (query, side, one) in enumerate(zip(queries, sides, fused, strict=True)):
            if at and at % CHUNK == 0:
                await asyncio.sleep(0)
            held = {point: Entry(payloads[point]) for point in one if point in payloads}  # less what was deleted meanwhile
            answers.append(rank(query, side, one, held))
        return answers

    async def _payloads(self, client: AsyncQdrantClient, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        if not ids:
            return {}
        records = await client.retrieve(self._collection, ids, with_payload=True, with_vectors=False)
        return {cast(int, record.id): record.payload or {} for record in records}

    async def count(self) -> int:
        """See `VectorIndex.count`."""
        client = self._open_client()
        with border("the index cannot be counted"):
            return (await client.count(self._collection, exact=True)).count

    async def items(self) -> AsyncIterator[Item]:
        """See `VectorIndex.items`; `PAGE` items are read at a time."""
        client = self._open_client()
        offset: Any = None
        while True:
            with border("the index cannot be read"):
                records, offset = await client.scroll(self._collection, limit=PAGE, offset=offset, with_payload=True)
            for record in records:
                yield to_item(record.payload or {})
            if offset is None:
                return

    async def get(self, ids: Sequence[str]) -> list[Item]:
        """See `WritableIndex.get`."""
        client = self._open_client()
        with border("the index cannot be read"):
            return [to_item(payload) for payload in (await self._payloads(client, [point_id(i) for i in ids])).values()]

    async def upsert(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """See `WritableIndex.upsert`; of several items with one id the last counts.

        Returns when as many replicas have it as the collection's write consistency says.
        """
        client = self._open_client()
        if vectors.shape != (len(items), self.dimensions):
            raise IndexUnavailable(f"vectors of shape {vectors.shape} for {len(items)} items of {self.dimensions} dimensions")
        last = list({item.id: at for at, item in enumerate(items)}.values())
        with border("items cannot be written"):
            if items:
                await client.upsert(self._collection, points([items[at] for at in last], vectors[last]), wait=True)

    async def delete(self, ids: Sequence[str]) -> None:
        """See `WritableIndex.delete`."""
        client = self._open_client()
        with border("items cannot be deleted"):
            if ids:
                gone = models.PointIdsList(points=[point_id(i) for i in ids])
                await client.delete(self._collection, gone, wait=True)

    async def close(self) -> None:
        """See `VectorIndex.close`."""
        client, self._client = self._client, None
        if client is not None:
            with border("the connection cannot be closed"):
                await client.close()

    def _open_client(self) -> AsyncQdrantClient:
        if self._client is None:
            raise IndexUnavailable("the index is closed")
        return self._client


def _requests(
    query: IndexQuery, size: int, dimensions: int, params: models.SearchParams | None
) -> dict[str, models.QueryRequest]:
    """One request for each side of `Sides` that the query can ask, `size` candidates each."""
    conditions = _conditions(query.filters)
    condition = models.Filter(must=conditions) if conditions else None
    requests: dict[str, models.QueryRequest] = {}
    if query.vector is not None:
        nearest = models.NearestQuery(nearest=shorten(query.vector, dimensions).tolist())
        requests["meaning"] = models.QueryRequest(query=nearest, using=DENSE, limit=size, filter=condition, params=params)
    if query.text:
        text = fold(query.text)
        for side, using, encoded in (("name", NAME, encode_name(text)), ("tags", TAGS, encode_tags(text))):
            nearest = models.NearestQuery(nearest=sparse_vector(encoded))
            requests[side] = models.QueryRequest(query=nearest, using=using, limit=size, filter=condition)
        key = models.MatchValue(value=name_key(text))
        bears: list[Any] = [models.FieldCondition(key=field, match=key) for field in ("title_names", "artist_names")]
        same = models.Filter(must=conditions or None, should=bears)
        by_fame = models.OrderByQuery(order_by=models.OrderBy(key="popularity", direction=models.Direction.DESC))
        requests["same_name"] = models.QueryRequest(query=by_fame, limit=size, filter=same)
        if query.names:
            likely = models.MatchAny(any=[name_key(name) for name, _ in query.names])
            for side, field in (("titled", "title_names"), ("played_by", "artist_names")):
                named = models.Filter(must=[*conditions, models.FieldCondition(key=field, match=likely)])
                requests[side] = models.QueryRequest(query=by_fame, limit=size, filter=named)
    return requests


def _conditions(filters: Filters) -> list[Any]:
    conditions: list[Any] = []
    if filters.kinds:
        conditions.append(models.FieldCondition(key="kind", match=models.MatchAny(any=[str(kind) for kind in filters.kinds])))
    if filters.genres:
        genres = models.MatchAny(any=[fold(genre) for genre in filters.genres])
        conditions.append(models.FieldCondition(key="genre_keys", match=genres))
    if filters.year_gte is not None or filters.year_lte is not None:
        years = models.Range(gte=filters.year_gte, lte=filters.year_lte)
        conditions.append(models.FieldCondition(key="year", range=years))
    return conditions


def _ranked(found: Sequence[models.ScoredPoint]) -> Ranked:
    return [(cast(int, point.id), point.score) for point in found]
