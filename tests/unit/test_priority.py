"""Real-time priority: for one thread, for a while, or a clear refusal; and none at all, for what may wait."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from app import cli_index
from app.errors import SetupError
from app.index.address import ClusterAddress, index_address
from app.priority import LOOK_S, REST_S, allowed, give_way, idle, realtime

ASK = "import os; print(os.sched_getscheduler(0))"


def policy() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


@pytest.mark.skipif(not allowed(), reason="no right to real-time priority here")
def test_a_thread_has_it_meanwhile_and_what_it_starts_has_not() -> None:
    """Processes and threads that are started meanwhile are ordinary; afterwards the thread is, too."""
    found = []
    with realtime():
        inside = policy()
        child = subprocess.run([sys.executable, "-I", "-S", "-c", ASK], capture_output=True, text=True, check=True)
        thread = Thread(target=lambda: found.append(policy()))
        thread.start()
        thread.join()
    assert inside == os.SCHED_RR
    assert [policy(), int(child.stdout), *found] == [os.SCHED_OTHER] * 3


def test_who_may_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named, and nothing is run without it."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(SetupError, match=r"Operation not permitted.*CAP_SYS_NICE"), realtime():
        pytest.fail("it was let in")
    assert not allowed()


@pytest.mark.parametrize(("share", "rests"), [(1.0, 3), (0.95, 3), (0.9, 0), (0.0, 0)])
async def test_a_loop_that_never_rests_is_made_to(share: float, rests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It rests after each while in which its thread had a core nearly all the time, and never otherwise."""
    now, rested, looks = 0.0, list[float](), 0

    async def sleep(seconds: float) -> None:
        nonlocal now, looks
        assert seconds == LOOK_S
        now, looks = now + seconds, looks + 1
        if looks == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await give_way(clock=lambda: now, used=lambda: share * now, rest=rested.append)
    assert rested == [REST_S] * rests


def apart(work: Callable[[], object]) -> None:
    """Run in a thread of its own, whose policy is nobody else's: one that had real-time priority keeps the flag for forks."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def test_what_may_wait_does_and_what_it_starts() -> None:
    """Processes and threads that are started meanwhile are idle too; afterwards the thread is ordinary again."""
    found = []

    def work() -> None:
        with idle():
            found.append(policy())
            child = subprocess.run([sys.executable, "-I", "-S", "-c", ASK], capture_output=True, text=True, check=True)
            found.append(int(child.stdout))
            apart(lambda: found.append(policy()))
        found.append(policy())

    apart(work)
    assert found == [os.SCHED_IDLE] * 3 + [os.SCHED_OTHER]


def test_indexing_may_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`searchbar index` runs behind whatever serves in the same container."""
    found = []

    def address(out: str) -> Path | ClusterAddress:
        found.append(policy())
        return index_address(out)

    monkeypatch.setattr(cli_index, "index_address", address)
    (tmp_path / "songs.csv").write_text("title\n", encoding="utf-8")
    arguments = ["index", str(tmp_path / "songs.csv"), "--out", str(tmp_path / "songs")]
    apart(lambda: CliRunner().invoke(cli_index.indexing, arguments))
    assert found == [os.SCHED_IDLE]
