"""Which indexes get a graph: those that are too large to be searched whole, however they became so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from app.domain import IndexQuery, Item
from app.index import edge_writer
from app.index.edge import EdgeIndex
from app.index.edge_writer import NO_GRAPH, EdgeWriter
from app.index.manifest import Manifest, now
from app.index.versions import new_version

DIMENSIONS = 256
FLAT = 1_500  # of 256 dimensions: enough to be quantised, quick to build


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_writer, "FLAT", FLAT)


def vectors(count: int) -> np.ndarray:
    drawn = np.random.default_rng(7).standard_normal((count, DIMENSIONS)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def write(writer: EdgeWriter, first: int, last: int) -> None:
    items = [Item(str(n), f"song {n}", artist=f"artist {n % 50}") for n in range(first, last)]
    for start in range(0, len(items), 500):
        part = items[start : start + 500]
        writer.add(part, vectors(last)[first + start : first + start + len(part)])
    writer.finish(Manifest(DIMENSIONS, "test", last, now(), "test", quantisation="int8"))
    writer.close()


def edges(version: Path) -> int:
    """Edges of a node, by the engine's own configuration."""
    found: int = json.loads((version / "shard" / "edge_config.json").read_text())["hnsw_config"]["m"]
    return found


def graph_bytes(version: Path) -> int:
    return sum(path.stat().st_size for path in version.rglob("links*.bin"))


@pytest.mark.parametrize(
    ("sizes", "graph"),
    [
        pytest.param((FLAT,), False, id="small"),
        pytest.param((FLAT + 500,), True, id="built large"),
        pytest.param((FLAT, FLAT + 500), True, id="grown large"),
    ],
)
async def test_an_index_too_large_to_be_searched_whole_gets_a_graph(
    tmp_path: Path, sizes: tuple[int, ...], graph: bool
) -> None:
    """By its last size, whether it was built or updated to it; the nearest are found in either way."""
    out = tmp_path / "index"
    with new_version(out) as version:
        before = 0
        for size in sizes:
            write(EdgeWriter(version, DIMENSIONS, existing=before > 0), before, size)
            before = size
    assert (edges(out.resolve()) != NO_GRAPH) == graph
    assert (graph_bytes(out.resolve()) > 50_000) == graph
    index = EdgeIndex.open(out)
    asked = vectors(sizes[-1])[::100]
    answers = await index.query([IndexQuery("", vector, 1) for vector in asked])
    assert [hits[0].item.id for hits in answers] == [str(n) for n in range(0, sizes[-1], 100)]
    await index.close()
