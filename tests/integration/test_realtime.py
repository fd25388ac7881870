"""`SEARCHBAR_REALTIME` on the whole stack."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from app.priority import allowed
from loadtest.server import tree
from tests.conftest import start, stop


@pytest.mark.skipif(not allowed(), reason="no right to real-time priority here")
def test_the_event_loop_alone_has_it(demo_index: Path, tmp_path: Path) -> None:
    """The gateway's first thread is served first; its other threads, the index and Triton are as ordinary as ever."""
    serving = start(demo_index, tmp_path / "serve.log", {"SEARCHBAR_REALTIME": "true"})
    try:
        assert httpx.post(f"{serving.url}/v1/search", json={"query": "bilie jean"}, timeout=10).status_code == 200
        pids = tree(serving.process.pid)
        threads = [int(task) for pid in pids for task in os.listdir(f"/proc/{pid}/task")]
        first = [thread for thread in threads if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR]
        assert first == [serving.process.pid] and len(pids) > 3
    finally:
        stop(serving)
