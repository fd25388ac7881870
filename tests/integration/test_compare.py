"""The comparison's harness on a real server: ours, which needs no installation of its own."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.errors import SetupError
from app.settings import Settings
from loadtest.compare import QUICK, Contestant, Reference, Row, Subject, in_turn, measure
from loadtest.peers.roster import OURS, PEERS, Peer
from loadtest.server import Target, started, tree
from tests.conftest import Serving

LEAVES_A_CHILD = "sleep 1000 & exec {python} -m http.server {{port}} --bind 127.0.0.1"


def test_a_server_is_checked_loaded_and_written_down(serving: Serving) -> None:
    """Its answers are the graph's own, and every figure of its row is there."""
    said: list[str] = []
    row = Row.of(OURS, OURS.settings[0])
    row.cosine = Reference(Settings().model_repository).check(OURS, serving.url)
    one = Contestant(row, Subject(OURS, Target(serving.url, serving.process.pid)), QUICK, said.append)
    one.warm_up()
    in_turn([one], QUICK)
    one.conclude()
    assert row.cosine > 0.999
    assert row.closed_tps and row.alone and row.alone["p50_ms"] > 0
    assert set(row.at) == {"50", "100"} and row.steps
    assert row.memory_mib and row.memory_mib > 50
    assert not any("not HTTP" in line for line in said)


def test_other_embeddings_are_not_timed(serving: Serving) -> None:
    """A server that answers something else is refused before any load."""
    turned = Peer(
        **{name: getattr(OURS, name) for name in OURS.__slots__ if name != "read"}, read=lambda a: a["embeddings"][0][::-1]
    )
    with pytest.raises(SetupError, match="other embeddings"):
        Reference(Settings().model_repository).check(turned, serving.url)


def test_a_peer_that_is_not_installed_says_so(tmp_path: Path) -> None:
    """It has a row with the reason instead of figures."""
    peer = PEERS["litserve"]
    if not peer.missing():
        pytest.skip("the other servers are installed here")
    ((row,),) = measure([peer], QUICK, Reference(Settings().model_repository), tmp_path, lambda line: None)
    assert "make compare" in row.not_run and row.max_tps is None


def test_what_a_server_leaves_behind_is_ended(tmp_path: Path) -> None:
    """Frameworks start processes that outlive their parents; the next server must have the cores to itself."""
    command = ("sh", "-c", LEAVES_A_CHILD.format(python=sys.executable))
    with started({}, tmp_path / "log", command, "/") as target:
        assert httpx.get(target.url).status_code == 200
        below = tree(target.pid or 0)[1:]
        assert len(below) == 1
    all_gone(below)


def all_gone(pids: list[int]) -> None:
    until = time.monotonic() + 5
    while any(running(pid) for pid in pids):
        assert time.monotonic() < until, pids
        time.sleep(0.05)


def test_a_restless_server_stands_still_while_others_are_asked(tmp_path: Path) -> None:
    """All its processes run when it is asked, and only then; one that is stopped can be ended."""
    command = ("sh", "-c", LEAVES_A_CHILD.format(python=sys.executable))
    with started({}, tmp_path / "log", command, "/") as target:
        subject = Subject(OURS, target)
        subject.stop()
        pids = tree(target.pid or 0)
        until_in(pids, "T")
        found = subject.closed(1, 0.2)
        assert found.failures == {"501": found.requests}  # it has no such route, and says so
        until_in(pids, "T")
    all_gone(pids)


def until_in(pids: list[int], state: str) -> None:
    until = time.monotonic() + 5
    while (states := {Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in pids}) != {state}:
        assert time.monotonic() < until, states
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
