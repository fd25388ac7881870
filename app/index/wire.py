"""How processes of an index are started, and what the gateway and its own tell each other: pickled values, each after its
length in four bytes.

Queries, hits and items go as tuples: pickling frozen dataclasses takes Python a step for each field at both ends. Both ends are
this program, and the socket between them has no name that anybody else could connect to: hence pickle.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any

import numpy as np

from app.domain import Filters, Hit, IndexQuery, Item

PROCESS = "searchbar-index"  # name of the index's process, 15 letters at most
Packed = tuple[Any, ...]

_LENGTH = Struct("<I")


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a Python that calls `main` of `module` with `arguments`.

    It has the same modules as this one, and none that lie about where the command was started.
    """
    end = len(arguments) + 1
    boot = f"import sys; sys.path[:] = sys.argv[{end}:]; from {module} import main; main(*sys.argv[1:{end}])"
    return [sys.executable, "-I", "-c", boot, *arguments, *(path or os.getcwd() for path in sys.path)]


def frame(value: object) -> bytes:
    """`value` as it is sent."""
    body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Puts together again what arrives in pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The values that are whole now."""
        self._rest += data
        while len(self._rest) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._rest)[0]
            if len(self._rest) < end:
                return
            body = bytes(self._rest[_LENGTH.size : end])
            del self._rest[:end]
            yield pickle.loads(body)


def pack_query(query: IndexQuery) -> Packed:
    """A query as a tuple, its vector as little-endian float32 bytes."""
    vector = None if query.vector is None else query.vector.astype("<f4", copy=False).tobytes()
    filters = query.filters
    conditions = filters.kinds, filters.genres, filters.year_gte, filters.year_lte
    return query.text, vector, query.limit, conditions, query.names


def unpack_query(packed: Packed) -> IndexQuery:
    """What `pack_query` was given."""
    text, vector, limit, conditions, names = packed
    return IndexQuery(text, None if vector is None else np.frombuffer(vector, "<f4"), limit, Filters(*conditions), names)


def pack_item(item: Item) -> Packed:
    """An item as a tuple of its fields."""
    return (item.id, item.title, item.kind, item.artist, item.album, item.year, item.genres, item.moods, item.popularity,
            item.extra)  # fmt: skip


def unpack_items(packed: Sequence[Packed]) -> list[Item]:
    """The items that `pack_item` was given."""
    return [Item(*fields) for fields in packed]


def pack_hit(hit: Hit) -> Packed:
    """A hit as a tuple, its item's fields last."""
    return hit.score, hit.matched_by, *pack_item(hit.item)


def unpack_hits(packed: Sequence[Packed]) -> list[Hit]:
    """The hits that `pack_hit` was given."""
    return [Hit(Item(*fields), score, matched_by) for score, matched_by, *fields in packed]
