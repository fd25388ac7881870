"""Writing an index on a Qdrant cluster: a collection of its own, which the alias names once it is whole.

    music                            the alias that readers and live changes use
    music-20260101T000000000000Z     the collection it names
    music-20260201T000000000000Z     the one being built

The server takes the two halves of a switch (the alias goes, the alias comes) in one operation, so a reader finds the old
version or the new one. A build that fails removes its collection; one that was killed leaves it to the next to remove.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt
from qdrant_client import models

from app.domain import Item
from app.errors import IndexUnavailable, InvalidInput
from app.index.address import Layout
from app.index.cluster_engine import Connection, border, points, to_metadata
from app.index.manifest import Manifest
from app.index.schema import DENSE, NAME, TAGS

log = logging.getLogger("searchbar")

_KEYWORD, _INTEGER, _FLOAT = models.PayloadSchemaType.KEYWORD, models.PayloadSchemaType.INTEGER, models.PayloadSchemaType.FLOAT
PAYLOAD_INDICES = {"kind": _KEYWORD, "genre_keys": _KEYWORD, "title_names": _KEYWORD, "artist_names": _KEYWORD,
                   "year": _INTEGER, "popularity": _FLOAT}  # fmt: skip
INDEX_FROM_KB = 10_000  # vectors of a segment from which it gets a graph; below, all are compared
POLL_S = 1.0
PATIENCE_S = 60  # for operations on a whole collection


class ClusterWriter:
    """Writes the next version of the index `name`; `finish` makes it the current one. Blocks, as its counterpart does.

    Args:
        connection: to the server.
        name: of the alias.
        dimensions: length of the dense vectors.
        layout: how the collection is spread and stored.

    Raises:
        InvalidInput: `name` is a collection that `searchbar index` did not make (the constructor).
        IndexUnavailable: the server is away or cannot write (every method but `close`).
    """

    def __init__(self, connection: Connection, name: str, dimensions: int, layout: Layout) -> None:
        self.items = 0
        self.collection = f"{name}-{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}Z"
        self._name = name
        self._whole = False
        self._client = connection.client()
        try:
            with border(f"the collection {self.collection} cannot be created"):
                if name in (held.name for held in self._client.get_collections().collections):
                    raise InvalidInput(f"{name} is a collection, not the alias of an index: choose another name in --out")
                self._create(dimensions, layout)
        except BaseException:
            self._client.close()
            raise

    def _create(self, dimensions: int, layout: Layout) -> None:
        sparse = models.SparseVectorParams(modifier=models.Modifier.IDF)
        self._client.create_collection(
            self.collection,
            vectors_config={DENSE: models.VectorParams(size=dimensions, distance=models.Distance.DOT, on_disk=layout.on_disk)},
            sparse_vectors_config={NAME: sparse, TAGS: sparse},
            shard_number=layout.shards,
            replication_factor=layout.replicas,
            write_consistency_factor=layout.write_consistency,
            on_disk_payload=layout.on_disk,
            hnsw_config=models.HnswConfigDiff(m=layout.hnsw_m, ef_construct=layout.hnsw_ef_construct),
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),  # the graph is built once, by `finish`
            quantization_config=_quantisation(layout),
            timeout=PATIENCE_S,
        )
        for field, schema in PAYLOAD_INDICES.items():  # before the points: the graph gets extra edges for these filters
            self._client.create_payload_index(self.collection, field, schema, wait=True)

    def add(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """Add items with their L2-normalised embeddings, float32 [items, dimensions]."""
        added = points(items, vectors)
        with border("items cannot be written"):
            self._client.upsert(self.collection, added, wait=True)
        self.items += len(added)

    def finish(self, manifest: Manifest) -> None:
        """Have the graph built, write the manifest, switch the alias, and remove the versions before."""
        with border(f"the collection {self.collection} cannot be finished"):
            threshold = models.OptimizersConfigDiff(indexing_threshold=INDEX_FROM_KB)
            self._client.update_collection(self.collection, optimizers_config=threshold, timeout=PATIENCE_S)
            self._wait_until_optimised()
            held = self._client.count(self.collection, exact=True).count
            if held != self.items:
                raise IndexUnavailable(f"the collection {self.collection} holds {held} of {self.items} items: build it again")
            self._client.update_collection(self.collection, metadata=to_metadata(manifest), timeout=PATIENCE_S)
            self._switch()
        self._whole = True
        self._remove_older()

    def _wait_until_optimised(self) -> None:
        while True:
            info = self._client.get_collection(self.collection)
            if info.status == models.CollectionStatus.GREEN:
                return
            if info.status == models.CollectionStatus.RED or isinstance(info.optimizer_status, models.OptimizersStatusOneOf1):
                raise IndexUnavailable(f"the collection {self.collection} cannot be optimised: {info.optimizer_status}")
            time.sleep(POLL_S)

    def _switch(self) -> None:
        create = models.CreateAlias(collection_name=self.collection, alias_name=self._name)
        steps: list[models.AliasOperations] = [models.CreateAliasOperation(create_alias=create)]
        if self._name in (alias.alias_name for alias in self._client.get_aliases().aliases):
            steps.insert(0, models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self._name)))
        self._client.update_collection_aliases(steps, timeout=PATIENCE_S)

    def _remove_older(self) -> None:
        """A version that cannot be removed costs space and is named, for the new one is already in use."""
        ours = re.compile(re.escape(self._name) + r"-\d{8}T\d{12}Z")
        try:
            with border("older versions cannot be removed"):
                for other in (held.name for held in self._client.get_collections().collections):
                    if ours.fullmatch(other) and other < self.collection:
                        self._client.delete_collection(other, timeout=PATIENCE_S)
        except IndexUnavailable as exc:
            log.warning("%s: the next build will try again", exc)

    def close(self) -> None:
        """Release the connection; what was not finished is removed, or named when that fails."""
        try:
            if not self._whole:
                with border(f"the unfinished collection {self.collection} cannot be removed"):
                    self._client.delete_collection(self.collection, timeout=PATIENCE_S)
        except IndexUnavailable as exc:
            log.warning("%s: the next build will try again", exc)
        finally:
            self._client.close()


def _quantisation(layout: Layout) -> models.ScalarQuantization | models.BinaryQuantization | None:
    if layout.quantisation == "int8":
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        return models.ScalarQuantization(scalar=scalar)
    if layout.quantisation == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return None
