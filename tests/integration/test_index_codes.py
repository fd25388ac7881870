"""Large indexes: codes choose what is scored, however the index became large and whatever has changed since."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import qdrant_edge as qdrant

from app.domain import Filters, IndexQuery, Item
from app.errors import IndexUnavailable, InvalidInput
from app.index import codes, edge_writer
from app.index.change import remove_items
from app.index.edge import EdgeIndex, read_ahead
from app.index.edge_live import LiveEdgeIndex
from app.index.edge_writer import EdgeWriter
from app.index.manifest import Manifest, now
from app.index.schema import point_id
from app.index.versions import new_version

DIMENSIONS = 256
FLAT = 1_500  # of 256 dimensions: enough to be quantised, quick to build
RARE = 7  # items of a genre that nothing else has
Vectors = npt.NDArray[np.float32]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_writer, "FLAT", FLAT)
    monkeypatch.setattr(codes, "PART", 1_000)


def vectors(count: int, seed: int = 7) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def item(number: int) -> Item:
    genres = ("rare",) if number < RARE else ("pop",)
    return Item(str(number), f"song {number}", artist=f"artist {number % 50}", genres=genres, year=1980 + number % 40)


def write(writer: EdgeWriter, first: int, last: int) -> None:
    items = [item(number) for number in range(first, last)]
    for start in range(0, len(items), 500):
        part = items[start : start + 500]
        writer.add(part, vectors(last)[first + start : first + start + len(part)])
    writer.finish(Manifest(DIMENSIONS, "test", last, now(), "test", quantisation="int8"))
    writer.close()


def build(out: Path, *sizes: int) -> Path:
    """An index of the first size, changed to each of the others."""
    with new_version(out) as version:
        before = 0
        for size in sizes:
            write(EdgeWriter(version, DIMENSIONS, existing=before > 0), before, size)
            before = size
    return out


async def first_hits(index: EdgeIndex, asked: Vectors, filters: Filters | None = None) -> list[str]:
    """The id of the best hit by meaning for each vector."""
    answers = await index.query([IndexQuery("", vector, 1, filters or Filters()) for vector in asked])
    return [hits[0].item.id if hits else "" for hits in answers]


@pytest.mark.parametrize(
    ("sizes", "coded"),
    [
        pytest.param((FLAT,), False, id="small"),
        pytest.param((FLAT + 500,), True, id="built large"),
        pytest.param((FLAT, FLAT + 500), True, id="grown large"),
        pytest.param((FLAT + 500, FLAT + 900), True, id="grown larger"),
    ],
)
async def test_an_index_too_large_to_be_compared_in_full_has_codes(tmp_path: Path, sizes: tuple[int, ...], coded: bool) -> None:
    """By its last size, whether it was built or updated to it; the nearest are found either way, and nothing is left over."""
    out = build(tmp_path / "index", *sizes)
    assert (out / codes.FOLDER).exists() == coded
    assert not (out / codes.SPOOL).exists()
    index = EdgeIndex.open(out)
    assert await first_hits(index, vectors(sizes[-1])[::100]) == [str(n) for n in range(0, sizes[-1], 100)]
    await index.close()


async def test_what_becomes_small_is_compared_in_full_again(tmp_path: Path) -> None:
    """An update to fewer items drops the codes: they would choose what is gone."""
    out = build(tmp_path / "index", FLAT + 100)
    remove_items((str(number) for number in range(200)), out)
    assert not (out / codes.FOLDER).exists()
    index = EdgeIndex.open(out)
    assert await first_hits(index, vectors(FLAT + 100)[250:252]) == ["250", "251"]
    await index.close()


async def test_a_filter_that_few_meet_misses_none_of_them(tmp_path: Path) -> None:
    """Where the candidates that codes choose do not meet the filter, all that do are compared."""
    index = EdgeIndex.open(build(tmp_path / "index", FLAT + 500))
    far = -vectors(FLAT + 500)[:RARE]  # the farthest of all from these items
    found = await index.query([IndexQuery("", vector, RARE, Filters(genres=("rare",))) for vector in far])
    assert all({hit.item.id for hit in hits} == {str(number) for number in range(RARE)} for hits in found)
    none = await index.query([IndexQuery("", far[0], 5, Filters(genres=("nothing has this",)))])
    assert none == [[]]
    await index.close()


@pytest.mark.parametrize("years", [pytest.param(20, id="half pass"), pytest.param(4, id="a tenth"), pytest.param(1, id="few")])
async def test_of_those_that_pass_a_filter_the_nearest_are_found(tmp_path: Path, years: int) -> None:
    """However many candidates it takes until enough of them pass."""
    known = vectors(FLAT + 500)
    index = EdgeIndex.open(build(tmp_path / "index", FLAT + 500))
    filters = Filters(year_gte=1990, year_lte=1989 + years)
    passing = [n for n in range(len(known)) if 1990 <= 1980 + n % 40 <= 1989 + years]
    for vector in known[::250]:
        [hits] = await index.query([IndexQuery("", vector, 10, filters)])
        assert [hit.item.id for hit in hits] == [str(n) for n in sorted(passing, key=lambda n: -float(known[n] @ vector))[:10]]
    await index.close()


def in_memory(path: Path) -> float:
    """The share of a file's pages that the kernel holds."""
    pages = np.zeros(-(-path.stat().st_size // mmap.PAGESIZE), np.uint8)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        start = np.frombuffer(mapped, np.uint8)
        assert (
            ctypes.CDLL(None).mincore(
                ctypes.c_void_p(start.ctypes.data), ctypes.c_size_t(len(mapped)), ctypes.c_void_p(pages.ctypes.data)
            )
            == 0
        )
        del start
    return float((pages & 1).mean())


def test_the_files_of_an_index_are_read_before_they_are_asked_for(tmp_path: Path) -> None:
    """All of each: of a long piece the kernel reads the beginning alone, and queries wait for the disk page by page."""
    file = tmp_path / "index" / "shard" / "vectors"
    file.parent.mkdir(parents=True)
    with file.open("wb") as written:
        written.write(os.urandom(48 * 1024 * 1024))
        written.flush()
        os.fsync(written.fileno())
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    read_ahead(tmp_path / "index")
    until = time.monotonic() + 30
    while in_memory(file) < 1.0 and time.monotonic() < until:
        time.sleep(0.05)
    assert in_memory(file) == 1.0


async def test_what_is_gone_leaves_no_gap(tmp_path: Path) -> None:
    """Where most of the candidates have been removed since, all that are left are compared."""
    known = vectors(FLAT + 500)
    index = LiveEdgeIndex.open(build(tmp_path / "index", FLAT + 500))
    nearest = [str(n) for n in np.argsort(-(known @ known[0]))]
    await index.delete(nearest[:150])
    [hits] = await index.query([IndexQuery("", known[0], 20)])
    assert [hit.item.id for hit in hits] == nearest[150:170]
    await index.close()


@pytest.fixture
def with_graphs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A large index as an earlier version of this program built it."""
    with monkeypatch.context() as earlier:
        earlier.setattr(edge_writer, "_NO_GRAPH", qdrant.HnswIndexConfig(4, 8, 10))
        out = build(tmp_path / "index", FLAT + 500)
    codes.drop(out)
    assert links(out) > 0
    return out


def links(out: Path) -> int:
    """Bytes of graphs."""
    return sum(path.stat().st_size for path in out.resolve().rglob("links*.bin"))


async def test_graphs_of_before_are_not_searched(with_graphs: Path) -> None:
    """A poor graph, searched a little, would miss what comparing all vectors finds."""
    known, index = vectors(FLAT + 500), EdgeIndex.open(with_graphs)
    for vector in vectors(20, seed=9):
        nearest = np.argsort(-(known @ vector))[:10]
        assert [point for point, _ in index.nearest(vector, 10)] == [point_id(str(n)) for n in nearest]
    await index.close()


def test_graphs_of_before_are_not_changed(with_graphs: Path) -> None:
    """The engine would go on building them: the catalogue is to be indexed again, which takes the embeddings over."""
    with pytest.raises(InvalidInput, match=r"with graphs, by an earlier version.*--mode replace"):
        remove_items(["6"], with_graphs)


async def test_queries_with_and_without_a_vector_keep_their_places(tmp_path: Path) -> None:
    """A batch of both is answered in its order, by meaning where there is one."""
    index = EdgeIndex.open(build(tmp_path / "index", FLAT + 500))
    known = vectors(FLAT + 500)
    queries = [IndexQuery("", known[9], 1), IndexQuery("song 12", None, 1), IndexQuery("", known[1_800], 1)]
    answers = await index.query(queries)
    assert [hits[0].item.id for hits in answers] == ["9", "12", "1800"]
    assert [hits[0].matched_by for hits in answers[::2]] == [("meaning",), ("meaning",)]
    assert "meaning" not in answers[1][0].matched_by
    await index.close()


class TestLive:
    """What is changed while it is served is found by meaning at once, and after every kind of end."""

    @staticmethod
    async def change(index: LiveEdgeIndex) -> Vectors:
        """A new item, one with another vector, one removed; returns the vectors that were written."""
        fresh = vectors(2, seed=8)
        await index.upsert([item(5_000), item(3)], fresh)
        await index.delete(["4"])
        return fresh

    @staticmethod
    async def check(index: EdgeIndex, fresh: Vectors) -> None:
        known = vectors(FLAT + 500)
        assert await first_hits(index, np.stack([*fresh, known[5]])) == ["5000", "3", "5"]
        assert not {"3", "4"} & set(await first_hits(index, known[3:5]))  # one lies elsewhere now, the other is gone

    async def test_a_change_is_found_at_once(self, tmp_path: Path) -> None:
        """The codes of what is upserted come with it."""
        index = LiveEdgeIndex.open(build(tmp_path / "index", FLAT + 500))
        await self.check(index, await self.change(index))
        await index.close()

    async def test_the_same_vector_needs_no_other_code(self, tmp_path: Path) -> None:
        """A new popularity for every item, every night, does not grow the codes; a new vector does."""
        out, known = build(tmp_path / "index", FLAT + 500), vectors(FLAT + 500)
        index = LiveEdgeIndex.open(out)
        assert index._codes is not None
        famous = [replace(item(number), popularity=90.0) for number in range(100)]
        await index.upsert(famous, known[:100])
        assert len(index._codes) == FLAT + 500
        assert [one.popularity for one in await index.get(["7"])] == [90.0]
        await index.upsert(famous[:2], np.stack([known[0], known[9]]))
        assert len(index._codes) == FLAT + 501
        assert await first_hits(index, known[2:4]) == ["2", "3"]
        await index.close()
        assert codes.added(out) == [point_id("1")]

    async def test_a_change_is_found_after_a_restart(self, tmp_path: Path) -> None:
        """Whoever opens it next makes codes of what came after the file was written; an update writes the file anew."""
        out = build(tmp_path / "index", FLAT + 500)
        index = LiveEdgeIndex.open(out)
        fresh = await self.change(index)
        await index.close()
        for kind in (EdgeIndex, LiveEdgeIndex):
            opened = kind.open(out)
            await self.check(opened, fresh)
            await opened.close()
        assert (out / codes.FOLDER / codes.ADDED).exists()
        remove_items(["6"], out)
        assert not (out / codes.FOLDER / codes.ADDED).exists()
        read = EdgeIndex.open(out)
        await self.check(read, fresh)
        await read.close()

    async def test_a_change_is_found_after_a_crash(self, tmp_path: Path) -> None:
        """What is in the journal alone has its codes once that has been applied, however often it was."""
        out = build(tmp_path / "index", FLAT + 500)
        index = LiveEdgeIndex.open(out)
        fresh = await self.change(index)
        journal = (out / "journal").read_bytes()
        index._lock.close()  # as the end of a process does; nothing was made final
        for _ in range(2):
            (out / "journal").write_bytes(journal)
            read = EdgeIndex.open(out)
            await self.check(read, fresh)
            await read.close()


async def test_damaged_codes_are_named(tmp_path: Path) -> None:
    """Half a file is no index, and says what to do about it."""
    out = build(tmp_path / "index", FLAT + 500)
    file = out / codes.FOLDER / "0000.faiss"
    file.write_bytes(file.read_bytes()[:5_000])
    with pytest.raises(IndexUnavailable, match=r"0000\.faiss is damaged .*build the index again"):
        EdgeIndex.open(out)


@pytest.mark.parametrize("dimensions", [16, 17])
def test_codes_choose_the_nearest(tmp_path: Path, dimensions: int) -> None:
    """Of 5,000 random vectors the nearest ten are among a hundred chosen; an odd number of dimensions does as well."""
    rng = np.random.default_rng(3)
    known = rng.standard_normal((5_000, dimensions)).astype(np.float32)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    asked = known[:50] + 0.1 * rng.standard_normal((50, dimensions)).astype(np.float32)
    points = np.arange(5_000, dtype=np.int64) << 40  # as large as an id's
    codes.Codes.of(points, known.astype(np.float16)).write(tmp_path)
    read = codes.Codes.read(tmp_path)
    assert read is not None and len(read) == 5_000
    best = np.argsort(-(asked @ known.T), axis=1)[:, :10]
    assert mean_share(read.nearest(asked, 100), points[best]) > 0.97
    assert read.nearest(asked[:1], 10**9) == [set(points.tolist())]


def mean_share(found: Sequence[set[int]], wanted: npt.NDArray[np.int64]) -> float:
    return float(np.mean([len(one & set(best.tolist())) / len(best) for one, best in zip(found, wanted, strict=True)]))


def test_points_that_came_later_are_noted_once_and_whole(tmp_path: Path) -> None:
    """Without codes nothing is noted; a number that a crash tore off is left out."""
    codes.note_added(tmp_path, [1])
    assert codes.added(tmp_path) == []
    (tmp_path / codes.FOLDER).mkdir()
    codes.note_added(tmp_path, [1, 2**62])
    codes.note_added(tmp_path, [1, 3])
    with (tmp_path / codes.FOLDER / codes.ADDED).open("ab") as file:
        file.write(b"torn")
    assert codes.added(tmp_path) == [1, 2**62, 3]
    codes.note_added(tmp_path, [4])
    assert codes.added(tmp_path) == [1, 2**62, 3, 4]
