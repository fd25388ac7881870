"""What crosses the socket between the gateway and the process of its index comes out as it went in."""

from __future__ import annotations

import numpy as np
import pytest

from app.domain import Filters, Hit, IndexQuery, Item
from app.index.wire import Frames, frame, pack_hit, pack_item, pack_query, unpack_hits, unpack_items, unpack_query

ITEM = Item("a", "Song", "album", "Band", "Record", 1984, ("rock", "pop"), ("sad",), 12.5, {"label": "x", "n": [1, None]})


def test_items_and_hits_come_back() -> None:
    """With every field, and its type."""
    plain = Item("b", "Other")
    assert unpack_items([pack_item(ITEM), pack_item(plain)]) == [ITEM, plain]
    hits = [Hit(ITEM, 1.25, ("title", "meaning")), Hit(plain, 0.5, ())]
    assert unpack_hits([pack_hit(hit) for hit in hits]) == hits


@pytest.mark.parametrize(
    "query",
    [
        IndexQuery("", None, 3),
        IndexQuery("a song", None, 10, Filters(("track",), ("rock", "pop"), 1980, None), (("song", 0.5), ("a", 1.0))),
    ],
)
def test_queries_come_back(query: IndexQuery) -> None:
    """Filters and near names, those that were not looked for too."""
    assert unpack_query(pack_query(query)) == query


def test_vectors_come_back() -> None:
    """To the last bit, as float32."""
    vector = np.random.default_rng(1).standard_normal(256).astype(np.float32)
    back = unpack_query(pack_query(IndexQuery("x", vector, 3))).vector
    assert back is not None and back.dtype == np.float32
    assert np.array_equal(back, vector)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 1000, 1_000_000])
def test_frames_are_put_together_whatever_the_pieces(size: int) -> None:
    """A byte at a time, and several in one piece."""
    values = [(1, True, None), (2, False, "x" * 70_000), (3, True, [b"", ("a", 0.5)])]
    sent = b"".join(frame(value) for value in values)
    frames = Frames()
    assert [value for at in range(0, len(sent), size) for value in frames.feed(sent[at : at + size])] == values
