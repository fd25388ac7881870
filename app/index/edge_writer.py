"""Writing the embedded vector index: a new one, or a copy of an old one that is changed; whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import qdrant_edge as qdrant

from app.domain import Item
from app.index.codes import Spool, drop
from app.index.edge_earlier import Held, held
from app.index.edge_engine import border, points
from app.index.edge_layout import FLAT, EdgeLayout
from app.index.edge_recovery import open_shard
from app.index.frequent import FeatureCounts
from app.index.manifest import Manifest
from app.index.schema import DENSE, NAME, TAGS, point_id

# Mapped files: in the heap they were 0.6 KB a row.
_KEYWORD = qdrant.KeywordIndexParams(memory=qdrant.Memory.Cold)
_INTEGER = qdrant.IntegerIndexParams(memory=qdrant.Memory.Cold)
_FLOAT = qdrant.FloatIndexParams(memory=qdrant.Memory.Cold)
Indices = dict[str, qdrant.KeywordIndexParams | qdrant.IntegerIndexParams | qdrant.FloatIndexParams]
PAYLOAD_INDICES: Indices = {"kind": _KEYWORD, "genre_keys": _KEYWORD, "title_names": _KEYWORD, "artist_names": _KEYWORD,
                            "year": _INTEGER, "popularity": _FLOAT}  # fmt: skip

PIECE = 125_000  # items written before the engine is closed and opened again, which gives memory back
INDEX_FROM_KB = 1_000  # vectors of a piece from which it is quantised
SCROLLED = 4_096  # vectors read at a time
_NO_GRAPH = qdrant.HnswIndexConfig(0, 100, 10_000)  # no edges; the other two say nothing then


def configuration(layout: EdgeLayout, dimensions: int, *, pieces: bool = False) -> qdrant.EdgeConfig:
    """The engine's configuration; with `pieces`, of an index that has several."""
    scalar = qdrant.ScalarQuantizationConfig(qdrant.ScalarType.Int8, quantile=0.99, memory=qdrant.Memory.Pinned)
    sparse = qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)
    rest = qdrant.Memory.Cold if layout.quantisation == "int8" else qdrant.Memory.Cached  # what the best hits alone need
    piece_kb = PIECE * dimensions * 4 // 1000
    optimizers = qdrant.EdgeOptimizersConfig(max_segment_size=piece_kb, indexing_threshold=min(INDEX_FROM_KB, piece_kb))
    return qdrant.EdgeConfig(
        vectors={DENSE: qdrant.EdgeVectorParams(size=dimensions, distance=qdrant.Distance.Dot, memory=rest)},
        sparse_vectors={NAME: sparse, TAGS: sparse},
        hnsw_config=_NO_GRAPH,
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

    A large index is built in pieces of `PIECE` items, each of which is one segment of the engine. Between two pieces the engine
    is closed and opened again, which lets go of the memory that building took. An index of more than `FLAT` items gets codes
    when it is finished (`codes.py`).

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
        self._spool = Spool(directory, dimensions)
        self._opened = open_shard(directory, alone=True) if existing else None
        if self._opened is not None:
            self._shard = self._opened.shard
            self.layout = EdgeLayout("int8" if self._opened.manifest.quantisation == "int8" else "none")
            return
        self._path.mkdir()
        with border("the index cannot be created"):
            self._shard = qdrant.EdgeShard.create(str(self._path), configuration(self.layout, dimensions))
            for field, schema in PAYLOAD_INDICES.items():
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
        if self._opened is None:  # of a changed copy all vectors are read again
            self._spool.add([point_id(item.id) for item in items], vectors)

    def held(self, numbers: Sequence[int]) -> dict[int, Held]:
        """What it holds of these points, by `point_id`; unknown ones are left out."""
        return held(self._shard, numbers)

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove the points with these numbers (`point_id`); unknown ones are ignored."""
        with border("items cannot be removed"):
            self._shard.update(qdrant.UpdateOperation.delete_points(cast("list[qdrant.PointId]", list(numbers))))

    def finish(self, manifest: Manifest) -> None:
        """Bring the last piece into its final form, flush, and write the manifest last. Other threads stand still meanwhile."""
        with border("the index cannot be finished"):
            self._shard.optimize()
            self._shard.flush()
        if manifest.items > FLAT:
            if self._opened is not None:
                self._spool_all()
            self._spool.codes().write(self._directory)
        else:
            drop(self._directory)
        self._spool.close()
        if self._opened is None:  # a changed copy keeps the shares of the version it began as
            self._features.write(self._directory)
        manifest.write(self._directory)

    def _spool_all(self) -> None:
        """Read all vectors: of a copy they are not those that were added alone."""
        offset: Any = None
        while True:
            request = qdrant.ScrollRequest(offset=offset, limit=SCROLLED, with_payload=False, with_vector=[DENSE])
            with border("the index cannot be read"):
                records, offset = self._shard.scroll(request)
            read = np.array([cast(Any, record.vector)[DENSE] for record in records], np.float32)
            self._spool.add([cast(int, record.id) for record in records], read)
            if offset is None:
                return

    def _seal(self) -> None:
        """Bring what was added into its final form, and give the memory back."""
        with border("the index cannot be written"):
            self._shard.optimize()
            self._shard.flush()
            self._shard.close()
            self._shard = qdrant.EdgeShard.load(str(self._path), configuration(self.layout, self._dimensions, pieces=True))
        self._added = 0

    def close(self) -> None:
        """Release the files."""
        self._spool.close()
        with contextlib.ExitStack() as held, border("the index cannot be closed"):
            if self._opened is not None and self._opened.journal is not None:
                held.enter_context(self._opened.lock)
                held.callback(self._opened.journal.close)
            self._shard.close()
