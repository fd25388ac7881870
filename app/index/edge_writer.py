"""Writing the embedded vector index: a new one, or a copy of an old one that is changed; whole or not at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import qdrant_edge as qdrant

from app.domain import Item
from app.index.edge_earlier import Held, held
from app.index.edge_engine import border, points
from app.index.edge_layout import FLAT, EdgeLayout
from app.index.edge_recovery import open_shard
from app.index.frequent import FeatureCounts
from app.index.manifest import Manifest
from app.index.schema import DENSE, NAME, TAGS

# Mapped files: in the heap they were 0.6 KB a row.
_KEYWORD = qdrant.KeywordIndexParams(memory=qdrant.Memory.Cold)
_INTEGER = qdrant.IntegerIndexParams(memory=qdrant.Memory.Cold)
_FLOAT = qdrant.FloatIndexParams(memory=qdrant.Memory.Cold)
Indices = dict[str, qdrant.KeywordIndexParams | qdrant.IntegerIndexParams | qdrant.FloatIndexParams]
PAYLOAD_INDICES: Indices = {"kind": _KEYWORD, "genre_keys": _KEYWORD, "title_names": _KEYWORD, "artist_names": _KEYWORD,
                            "year": _INTEGER, "popularity": _FLOAT}  # fmt: skip

PIECE = 125_000  # items that get a graph together: building it takes some 10 KB of memory an item
FULL_SCAN_KB = 10_000  # vectors that pass a filter are compared one by one up to this size: the engine's default
INDEX_FROM_KB = 1_000  # vectors of a piece from which it is quantised, and gets a graph where the index has graphs
NO_GRAPH = 0  # edges of a node
CONFIG = "edge_config.json"  # where the engine keeps what it was opened with


def configuration(layout: EdgeLayout, dimensions: int, *, graph: bool = True, pieces: bool = False) -> qdrant.EdgeConfig:
    """The engine's configuration, with a `graph` to search or without; with `pieces`, of an index that has several."""
    scalar = qdrant.ScalarQuantizationConfig(qdrant.ScalarType.Int8, quantile=0.99, memory=qdrant.Memory.Pinned)
    sparse = qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)
    rest = qdrant.Memory.Cold if layout.quantisation == "int8" else qdrant.Memory.Cached  # what the best hits alone need
    piece_kb = PIECE * dimensions * 4 // 1000
    optimizers = qdrant.EdgeOptimizersConfig(max_segment_size=piece_kb, indexing_threshold=min(INDEX_FROM_KB, piece_kb))
    return qdrant.EdgeConfig(
        vectors={DENSE: qdrant.EdgeVectorParams(size=dimensions, distance=qdrant.Distance.Dot, memory=rest)},
        sparse_vectors={NAME: sparse, TAGS: sparse},
        hnsw_config=qdrant.HnswIndexConfig(layout.hnsw_m if graph else NO_GRAPH, layout.hnsw_ef_construct, FULL_SCAN_KB),
        optimizers=optimizers,
        quantization_config=scalar if layout.quantisation == "int8" else None,
        payload_memory=rest,
        # Several pieces are searched by threads of the engine's. For one piece, handing the work over and waking up again
        # took a third of the processor time (by hand), and the caller waits in either way: it searches by itself.
        max_search_threads=0 if pieces else 1,  # 0: as many as there are cores
        wal_enabled=False,  # a build that dies is thrown away whole
    )


class EdgeWriter:
    """Writes an index into a directory of its own; `finish` makes it whole.

    Args:
        directory: an empty one for a new index; with `existing`, one that holds a copy of an index to change.
        dimensions: length of the dense vectors.
        layout: of a new index; an existing one keeps its own.

    Attributes:
        layout: of the index.

    A large index is built in pieces of `PIECE` items, each of which is one segment of the engine with a graph of its own.
    Between two pieces the engine is closed and opened again, which lets go of the memory that building took: a million items
    in one piece came to 8.1 GiB half way through its graph.

    Raises:
        IndexUnavailable: the engine cannot write there (every method).
    """

    def __init__(
        self,
        directory: Path,
        dimensions: int,
        layout: EdgeLayout | None = None,
        *,
        existing: bool = False,
    ) -> None:
        self._directory = directory
        self._dimensions = dimensions
        self.layout = layout or EdgeLayout()
        self._added = 0  # since the last piece was sealed
        self._features = FeatureCounts()
        self._opened = open_shard(directory, alone=True) if existing else None
        if self._opened is not None:
            self._shard = self._opened.shard
            self.layout = EdgeLayout("int8" if self._opened.manifest.quantisation == "int8" else "none")
            return
        self._path.mkdir()
        with border("the index cannot be created"):
            self._shard = qdrant.EdgeShard.create(str(self._path), configuration(self.layout, dimensions, graph=False))
            for field, schema in PAYLOAD_INDICES.items():  # before the items: a graph gets extra edges for these filters
                self._shard.update(qdrant.UpdateOperation.create_field_index(field, schema))

    @property
    def _path(self) -> Path:
        return self._directory / "shard"

    @property
    def items(self) -> int:
        """How many items are in it now."""
        with border("the index cannot be counted"):
            return self._shard.count(qdrant.CountRequest(exact=True))

    def add(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """Add items, or replace those of the same id, with their L2-normalised embeddings, float32 [items, dimensions]."""
        added = points(items, vectors)
        with border("items cannot be written"):
            if self._added >= PIECE:
                self._seal()
            self._shard.update(qdrant.UpdateOperation.upsert_points(added))
        self._added += len(added)
        self._features.add(items)

    def held(self, numbers: Sequence[int]) -> dict[int, Held]:
        """What it holds of these points, by `point_id`; unknown ones are left out."""
        return held(self._shard, numbers)

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove the points with these numbers (`point_id`); unknown ones are ignored."""
        with border("items cannot be removed"):
            self._shard.update(qdrant.UpdateOperation.delete_points(cast("list[qdrant.PointId]", list(numbers))))

    def finish(self, manifest: Manifest) -> None:
        """Build the last graph, flush, and write the manifest last. Other threads stand still meanwhile."""
        with border("the index cannot be finished"):
            if manifest.items > FLAT and self._is_flat():
                self._reopen(configuration(self.layout, self._dimensions))
            self._shard.optimize()
            self._shard.flush()
        if self._opened is None:  # a changed copy keeps the shares of the version it began as
            self._features.write(self._directory)
        manifest.write(self._directory)

    def _seal(self) -> None:
        """Build the graph of what was added, and give the memory back."""
        if self._is_flat():
            self._reopen(configuration(self.layout, self._dimensions, pieces=True))
        self._shard.optimize()
        self._shard.flush()
        self._reopen()
        self._added = 0

    def _is_flat(self) -> bool:
        """Whether the engine was opened without graphs."""
        found: dict[str, Any] = json.loads((self._path / CONFIG).read_text(encoding="utf-8"))
        return bool(found["hnsw_config"]["m"] == NO_GRAPH)

    def _reopen(self, config: qdrant.EdgeConfig | None = None) -> None:
        """Open what is written again, as before unless `config` says otherwise."""
        self._shard.close()
        self._shard = qdrant.EdgeShard.load(str(self._path), config)

    def close(self) -> None:
        """Release the files."""
        with contextlib.ExitStack() as held, border("the index cannot be closed"):
            if self._opened is not None and self._opened.journal is not None:
                held.enter_context(self._opened.lock)
                held.callback(self._opened.journal.close)
            self._shard.close()
