"""A large build writes its index in a process of its own: the same index, the same errors, and no process left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from app.domain import IndexQuery, Item
from app.errors import IndexUnavailable
from app.index import build
from app.index.edge import EdgeIndex
from app.index.edge_apart import EdgeWriterApart

DIMENSIONS = 16
ROWS = 2_500


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FLAT", 100)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The ids of the processes that were started, none of which is there in the end."""
    ids: list[int] = []

    class Noted(EdgeWriterApart):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            ids.append(self._process.pid)

    monkeypatch.setattr(build, "EdgeWriterApart", Noted)
    yield ids
    for number in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def direction(passage: str) -> npt.NDArray[np.float32]:
    vector = np.random.default_rng(list(passage.encode())).standard_normal(DIMENSIONS).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


async def embed(passages: list[str]) -> npt.NDArray[np.float32]:
    return np.stack([direction(passage) for passage in passages])


async def built(out: Path, rows: int = ROWS, embed: build.Embed = embed) -> build.BuildReport:
    source = out.with_name("songs.csv")
    lines = [f"s{n},Song {n},Band {n % 50}" for n in range(rows)]
    source.write_text("\n".join(("id,title,artist", *lines)), encoding="utf-8")
    return await build.build_index(source, out, embed, DIMENSIONS, "weights", lambda done, total: None)


async def check(out: Path, rows: int = ROWS) -> None:
    index = EdgeIndex.open(out)
    assert await index.count() == rows
    for n in range(0, rows, 499):
        [by_meaning] = await index.query([IndexQuery("", direction(f"song {n} by band {n % 50}"), 1)])
        [by_name] = await index.query([IndexQuery(f"song {n} band {n % 50}", None, 1)])
        assert (by_meaning[0].item.id, by_name[0].item.id) == (f"s{n}", f"s{n}")
    await index.close()


async def test_the_index_is_the_same(tmp_path: Path, started: list[int]) -> None:
    """Every row is there, found by name and by meaning; a small catalogue starts no process."""
    report = await built(tmp_path / "index")
    assert (report.items, report.rejected, len(started)) == (ROWS, 0, 1)
    await check(tmp_path / "index")
    await built(tmp_path / "small", 50)
    assert len(started) == 1


async def test_a_writer_that_is_killed_is_an_error_and_the_old_index_stays(tmp_path: Path, started: list[int]) -> None:
    """The build ends with what happened, whatever it had still to give; whoever searches goes on."""
    await built(tmp_path / "index")

    async def deadly(passages: list[str]) -> npt.NDArray[np.float32]:
        os.kill(started[-1], signal.SIGKILL)
        return await embed(passages)

    (tmp_path / "index" / "manifest.json").write_text(  # so that nothing is taken over
        (tmp_path / "index" / "manifest.json").read_text().replace('"weights"', '"others"')
    )
    with pytest.raises(IndexUnavailable, match="the process that writes the index has ended"):
        await built(tmp_path / "index", ROWS + 1_000, deadly)
    assert len(started) == 2
    await check(tmp_path / "index")


async def test_a_build_that_fails_leaves_no_process(tmp_path: Path, started: list[int]) -> None:
    """An error of the embedder's is what the build ends with."""

    async def broken(passages: list[str]) -> npt.NDArray[np.float32]:
        raise RuntimeError("no embedder")

    with pytest.raises(RuntimeError, match="no embedder"):
        await built(tmp_path / "index", embed=broken)
    assert len(started) == 1 and not (tmp_path / "index").exists()


def test_errors_of_the_engine_come_over(tmp_path: Path) -> None:
    """What cannot be begun says why; what fails later fails every call after it."""
    (tmp_path / "held" / "shard").mkdir(parents=True)
    with pytest.raises(IndexUnavailable, match="File exists"):
        EdgeWriterApart(tmp_path / "held", DIMENSIONS)
    (tmp_path / "index").mkdir()
    writer = EdgeWriterApart(tmp_path / "index", DIMENSIONS)
    writer.add([Item("a", "halo")], np.ones((1, DIMENSIONS + 1), np.float32))
    for _ in range(2):
        with pytest.raises(IndexUnavailable, match="items cannot be written"):
            assert writer.items
    writer.close()
    writer.close()
