"""Processes of the index that end or hang: what is asked meanwhile has an error, what was acknowledged is there afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from app.domain import IndexQuery, Item
from app.errors import IndexUnavailable, SetupError
from app.index import process
from app.index.edge_live import LiveEdgeIndex
from app.index.manifest import Manifest
from app.index.passage import passage_text
from app.index.process import IndexProcess
from app.index.wire import PROCESS
from loadtest.server import tree
from tests.contract.test_vector_index import CATALOGUE, DIMENSIONS, ask, edge, embed, ids
from tests.contract.test_writable_index import NEW, put

QUESTION = IndexQuery("hello", None, 5)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "index"
    path.mkdir()
    with edge(path):
        return path


@pytest.fixture
async def index(directory: Path) -> AsyncIterator[IndexProcess]:
    opened = await IndexProcess.start(directory)
    yield opened
    await opened.close()


def processes() -> list[int]:
    """Those that this process itself has started for its indexes."""
    return [pid for pid in tree(os.getpid())[1:] if stat(pid) == (PROCESS, str(os.getpid()))]


def stat(pid: int) -> tuple[str, str]:
    """Name and parent of a process; empty when it has gone."""
    try:
        found, rest = Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
    except OSError:
        return "", ""
    return found, rest.split()[1]


async def until(holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < timeout_s
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("sort", [signal.SIGKILL, signal.SIGSTOP])
async def test_what_ends_or_hangs_is_started_again(
    index: IndexProcess, sort: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks meanwhile is told so or may wait to his own deadline; then it answers as before."""
    monkeypatch.setattr(process, "HANG_S", 0.5)
    before = await ask(index, "hello")
    [pid] = processes()
    os.kill(pid, sort)
    with pytest.raises(IndexUnavailable):
        await asyncio.wait_for(index.query([QUESTION]), 10)
    await until(lambda: index.restarts == 1)
    assert await ask(index, "hello") == before
    assert processes() != [pid] and len(processes()) == 1


async def test_while_one_is_started_again_the_others_answer(directory: Path) -> None:
    """Of two processes one may end at any time."""
    index = await IndexProcess.start(directory, processes=2)
    before = await ask(index, "hello")
    struck, _ = processes()
    os.kill(struck, signal.SIGKILL)
    await asyncio.sleep(0.05)
    assert await ask(index, "hello") == before
    await until(lambda: index.restarts == 1)
    assert [item async for item in index.items()] and len(processes()) == 2
    await index.close()
    assert processes() == []


async def test_it_ends_with_its_gateway(index: IndexProcess) -> None:
    """Signals of a terminal or a service manager are not for it; `close` and the end of the socket are."""
    [pid] = processes()
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert ids(await ask(index, "hello"))[0] == "hello-adele"
    await index.close()
    assert processes() == []


async def test_callers_that_leave_are_forgotten(index: IndexProcess) -> None:
    """Their answers come when they are gone, and belong to nobody else."""
    for _ in range(20):
        leaving = asyncio.create_task(index.query([QUESTION]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving.cancel()
        assert ids(await ask(index, "bohemian rhapsody"))[0] == "bohemian"


async def test_many_questions_at_once_are_each_answered(index: IndexProcess) -> None:
    """More than leave in one call, all with an answer of their own."""
    titles = [item.title for item in CATALOGUE if item.title.isascii() and item.title.isalpha()] * 10
    answers = await asyncio.gather(*(ask(index, title.lower()) for title in titles))
    assert [hits[0].item.title for hits in answers] == titles


async def test_what_was_acknowledged_outlasts_the_process(directory: Path) -> None:
    """SIGKILL right after an upsert: its successor has the item, and a reader after both."""
    index = await IndexProcess.start(directory, alone=True)
    await put(index, NEW)
    [pid] = processes()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: index.restarts == 1)
    assert await index.get([NEW.id]) == [NEW]
    await index.delete(["queen"])
    await index.close()
    reader = LiveEdgeIndex.open(directory)
    assert await reader.count() == len(CATALOGUE)
    await reader.close()


async def test_what_cannot_be_opened_says_why(directory: Path, tmp_path: Path) -> None:
    """The errors of the index itself, not of a process that has ended; and nothing is left running."""
    with pytest.raises(IndexUnavailable, match="holds no index"):
        await IndexProcess.start(tmp_path / "none")
    with pytest.raises(SetupError, match="SEARCHBAR_INDEX_PROCESSES=1"):
        await IndexProcess.start(directory, alone=True, processes=2)
    reading = await IndexProcess.start(directory)
    with pytest.raises(SetupError, match="open in another process"):
        await IndexProcess.start(directory, alone=True)
    await reading.close()
    assert processes() == []


async def test_an_index_of_another_embedder_is_not_taken(
    index: IndexProcess, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When the directory was replaced meanwhile: queries embedded here would find nothing sensible there."""
    Manifest(DIMENSIONS, "another", len(CATALOGUE), "2026-01-01T00:00:00+00:00", "contract").write(directory)
    [pid] = processes()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: "restart the server" in caplog.text)
    with pytest.raises(IndexUnavailable, match="being started again"):
        await ask(index, "hello")
    Manifest(DIMENSIONS, "words", len(CATALOGUE), "2026-01-01T00:00:00+00:00", "contract").write(directory)
    await until(lambda: index.restarts == 1)
    assert ids(await ask(index, "hello"))[0] == "hello-adele"


async def test_modules_of_the_working_directory_are_not_taken(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory `app` where the gateway was started is somebody else's."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('the wrong app')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    index = await IndexProcess.start(directory)
    assert await index.count() == len(CATALOGUE)
    await index.close()


async def test_large_upserts_cross_in_one_piece(directory: Path) -> None:
    """Two thousand items, more than the socket's buffers hold."""
    index = await IndexProcess.start(directory, alone=True)
    items = [Item(f"n{at}", f"Zorblax {at}", extra={"note": "x" * 500}) for at in range(2000)]
    await index.upsert(items, np.stack([embed(passage_text(item)) for item in items]))
    assert await index.count() == len(CATALOGUE) + 2000
    assert await index.get(["n1999"]) == [items[1999]]
    await index.close()
