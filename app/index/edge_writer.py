"""Writing the embedded vector index: a new one, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import qdrant_edge as qdrant

from app.domain import Item
from app.index.edge_engine import border, points
from app.index.manifest import Manifest
from app.index.schema import DENSE, NAME, TAGS

_KEYWORD, _INTEGER, _FLOAT = qdrant.PayloadSchemaType.Keyword, qdrant.PayloadSchemaType.Integer, qdrant.PayloadSchemaType.Float
PAYLOAD_INDICES = {"kind": _KEYWORD, "genre_keys": _KEYWORD, "title_names": _KEYWORD, "artist_names": _KEYWORD,
                   "year": _INTEGER, "popularity": _FLOAT}  # fmt: skip


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
        with border("the index cannot be created"):
            self._shard = qdrant.EdgeShard.create(str(directory / "shard"), config)

    def add(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """Add items with their L2-normalised embeddings, float32 [items, dimensions]."""
        added = points(items, vectors)
        with border("items cannot be written"):
            self._shard.update(qdrant.UpdateOperation.upsert_points(added))
        self.items += len(added)

    def finish(self, manifest: Manifest) -> None:
        """Index the payload, build the graph, flush, and write the manifest last."""
        with border("the index cannot be finished"):
            for field, schema in PAYLOAD_INDICES.items():
                self._shard.update(qdrant.UpdateOperation.create_field_index(field, schema))
            self._shard.optimize()
            self._shard.flush()
        manifest.write(self._directory)

    def close(self) -> None:
        """Release the files."""
        with border("the index cannot be closed"):
            self._shard.close()
