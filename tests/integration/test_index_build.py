"""Catalogue file to index on the real engine: building, rejecting, swapping, crashing, opening."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from app.domain import IndexQuery
from app.errors import IndexUnavailable, InvalidInput, ModelFailed
from app.index.build import BuildReport, build_index
from app.index.edge import EdgeIndex
from app.index.manifest import FORMAT, Manifest

DIMENSIONS = 32


async def embed(passages: list[str]) -> npt.NDArray[np.float32]:
    """Random directions: these tests are about building, not about meaning."""
    vectors = np.random.default_rng(len(passages)).standard_normal((len(passages), DIMENSIONS)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def catalogue(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "catalogue.csv"
    path.write_text("\n".join(("title,artist,year", *rows)), encoding="utf-8")
    return path


def no_progress(done: int, total: int | None) -> None:
    pass


async def build(
    source: Path,
    out: Path,
    embed: Callable[..., object] = embed,
    progress: Callable[[int, int | None], None] = no_progress,
) -> BuildReport:
    return await build_index(source, out, embed, DIMENSIONS, "random", progress)  # type: ignore[arg-type]


async def first(index: EdgeIndex, text: str) -> str:
    [hits] = await index.query([IndexQuery(text, None, 1)])
    return hits[0].item.title if hits else ""


@pytest.mark.asyncio
async def test_a_build_reports_what_it_took_and_what_it_left(tmp_path: Path) -> None:
    """Items and rejected rows are counted, the rejected listed by line, the manifest filled, progress told to the end."""
    told: list[tuple[int, int | None]] = []
    source = catalogue(tmp_path, *(f"Song {n},Band {n}," for n in range(600)), "Bad,year,never", ",no title,")
    report = await build(source, tmp_path / "demo", progress=lambda done, total: told.append((done, total)))
    assert (report.items, report.rejected) == (600, 2)
    assert report.rejects is not None
    assert [json.loads(line) for line in report.rejects.read_text().splitlines()] == [
        {"line": 602, "reason": "year 'never' is not a whole number"},
        {"line": 603, "reason": "title is missing or blank"},
    ]
    assert told[0] == (0, 602)
    assert told[-1] == (602, 602)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    index = EdgeIndex.open(tmp_path / "demo")
    assert (index.manifest.items, index.manifest.embedder, index.manifest.source) == (600, "random", "catalogue.csv")
    assert await index.count() == 600
    assert len({item.id async for item in index.items()}) == 600
    await index.close()


@pytest.mark.asyncio
async def test_a_good_build_removes_an_earlier_list_of_rejected_rows(tmp_path: Path) -> None:
    """A list of rejected rows must always be the one of the last build."""
    await build(catalogue(tmp_path, "A,a,never", "B,b,"), tmp_path / "demo")
    assert (tmp_path / "demo.rejects.jsonl").exists()
    report = await build(catalogue(tmp_path, "A,a,", "B,b,"), tmp_path / "demo")
    assert report.rejects is None
    assert not (tmp_path / "demo.rejects.jsonl").exists()


async def _fails(passages: list[str]) -> npt.NDArray[np.float32]:
    raise ConnectionError("the embedder went away")


async def _too_short(passages: list[str]) -> npt.NDArray[np.float32]:
    return np.ones((len(passages), DIMENSIONS - 1), np.float32)


async def _not_finite(passages: list[str]) -> npt.NDArray[np.float32]:
    return np.full((len(passages), DIMENSIONS), np.nan, np.float32)


async def _cancelled(passages: list[str]) -> npt.NDArray[np.float32]:
    raise asyncio.CancelledError


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("rows", "embed_new", "error"),
    [
        pytest.param(["New,n,"], _fails, ConnectionError, id="embedder fails"),
        pytest.param(["New,n,"], _cancelled, asyncio.CancelledError, id="cancelled"),
        pytest.param(["New,n,"], _too_short, ModelFailed, id="wrong dimensions"),
        pytest.param(["New,n,"], _not_finite, ModelFailed, id="not finite"),
        pytest.param([",,"], embed, InvalidInput, id="no usable row"),
        pytest.param(None, embed, InvalidInput, id="no file"),
    ],
)
async def test_a_failed_build_leaves_the_old_index(
    tmp_path: Path, rows: list[str] | None, embed_new: Callable[..., object], error: type[BaseException]
) -> None:
    """Whatever breaks a build, the old index must stay in place, whole and alone."""
    out = tmp_path / "demo"
    await build(catalogue(tmp_path, "Old,o,"), out)
    before = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".demo.v-"))
    source = tmp_path / "missing.csv" if rows is None else catalogue(tmp_path, *rows)
    with pytest.raises(error):
        await build(source, out, embed_new)
    index = EdgeIndex.open(out)
    assert await first(index, "old") == "Old"
    await index.close()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".demo.v-")) == before


@pytest.mark.asyncio
async def test_an_open_index_keeps_answering_while_it_is_replaced(tmp_path: Path) -> None:
    """Who opened the old version keeps it through a rebuild; who opens afterwards, also a second time, gets the new one."""
    out = tmp_path / "demo"
    await build(catalogue(tmp_path, *(f"Old {n},o," for n in range(300))), out)
    old = EdgeIndex.open(out)

    async def asks_meanwhile(passages: list[str]) -> npt.NDArray[np.float32]:
        assert await first(old, "old 7") == "Old 7"
        return await embed(passages)

    await build(catalogue(tmp_path, *(f"New {n},n," for n in range(300))), out, asks_meanwhile)
    assert await first(old, "old 299") == "Old 299"
    assert len([item async for item in old.items()]) == 300
    new, also_new = EdgeIndex.open(out), EdgeIndex.open(out)
    assert [await first(index, "new 5") for index in (new, also_new)] == ["New 5", "New 5"]
    for index in (old, new, also_new):
        await index.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda d: (d / "manifest.json").unlink(), "searchbar index", id="no manifest"),
        pytest.param(lambda d: (d / "manifest.json").write_text("{"), "cannot be read", id="manifest cut off"),
        pytest.param(lambda d: (d / "manifest.json").write_text("[]"), "format None", id="manifest of something else"),
        pytest.param(
            lambda d: (d / "manifest.json").write_text(json.dumps({"format": FORMAT})), "damaged", id="fields missing"
        ),
        pytest.param(lambda d: (d / "manifest.json").write_text('{"format": 99}'), "format 99", id="another version"),
        pytest.param(lambda d: Manifest(DIMENSIONS, "random", 2, "", "").write(d), "1 of 2 items", id="items missing"),
        pytest.param(lambda d: next(d.rglob("*-null/is_null/status.dat")).write_bytes(b""), "gave up", id="engine panics"),
        pytest.param(lambda d: (d / "shard").rename(d / "shared"), "cannot be opened", id="files missing"),
        pytest.param(lambda d: (d / "shard" / "edge_config.json").write_text("{"), "cannot be opened", id="files damaged"),
    ],
)
async def test_a_damaged_index_is_refused_with_its_reason(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    """An index that cannot be read must raise IndexUnavailable, which says what is wrong, never a vendor's error."""
    out = tmp_path / "demo"
    await build(catalogue(tmp_path, "A,a,"), out)
    damage(out)
    with pytest.raises(IndexUnavailable, match=message):
        EdgeIndex.open(out)


def test_a_manifest_is_read_back_as_written(tmp_path: Path) -> None:
    """Every field of a manifest must survive the file."""
    manifest = Manifest(256, "bert-4x256", 3, "2026-01-01T00:00:00+00:00", "démo.csv")
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
