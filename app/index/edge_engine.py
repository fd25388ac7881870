"""What reading and writing the embedded engine share: its vectors and its errors.

The extension raises bare `Exception`s, and panics as `BaseException`s: `border` makes both `IndexUnavailable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import qdrant_edge as qdrant

from app.domain import Item
from app.errors import IndexUnavailable
from app.index.ngrams import Sparse, encode_item_name, encode_item_tags
from app.index.schema import DENSE, NAME, TAGS, point_id, to_payload


def points(items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> list[qdrant.Point]:
    """Items with their L2-normalised embeddings, float32 [items, dimensions], as the engine's points."""
    return [
        qdrant.Point(
            point_id(item.id),
            {DENSE: vector, NAME: sparse_vector(encode_item_name(item)), TAGS: sparse_vector(encode_item_tags(item))},
            to_payload(item),
        )
        for item, vector in zip(items, vectors.tolist(), strict=True)
    ]


def sparse_vector(encoded: Sparse) -> qdrant.SparseVector:
    return qdrant.SparseVector(encoded.indices, encoded.values)


@contextmanager
def border(what: str) -> Iterator[None]:
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
