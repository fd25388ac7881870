"""What an index already holds: for a build that takes embeddings over from the version before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import qdrant_edge as qdrant

from app.index.edge_engine import border
from app.index.schema import DENSE


class Held(NamedTuple):
    """What an index holds of one point: its payload and its embedding, float32 [dimensions]."""

    payload: dict[str, Any]
    vector: npt.NDArray[np.float32]


def held(shard: qdrant.EdgeShard, numbers: Sequence[int]) -> dict[int, Held]:
    """What `shard` holds of these points, by `point_id`; unknown ones are left out.

    Raises:
        IndexUnavailable: it cannot be read.
    """
    wanted = cast("list[qdrant.PointId]", list(numbers))
    with border("the index cannot be read"):
        records = shard.retrieve(wanted, True, [DENSE])
    return {
        cast(int, record.id): Held(record.payload or {}, np.asarray(cast(Any, record.vector)[DENSE], np.float32))
        for record in records
    }


class EarlierVersion:
    """An index version that is read while its successor is built. Whoever serves from it is not disturbed.

    Raises:
        IndexUnavailable: it cannot be opened (the constructor).
    """

    def __init__(self, directory: Path) -> None:
        with border(f"the index {directory} cannot be opened"):
            self._shard = qdrant.EdgeShard.load(str(directory / "shard"))

    def held(self, numbers: Sequence[int]) -> dict[int, Held]:
        """See `held`."""
        return held(self._shard, numbers)

    def close(self) -> None:
        """Release the files."""
        with border("the index cannot be closed"):
            self._shard.close()
