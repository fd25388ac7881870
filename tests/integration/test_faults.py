"""What stops leaves nothing behind, and what cannot start says why; faults under load are in test_faults_under_load.py."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SEARCHBAR, Serving, command, free_port, start, stop


@pytest.fixture
def stack(demo_index: Path, tmp_path: Path) -> Iterator[Serving]:
    running = start(demo_index, tmp_path / "serve.log")
    yield running
    if running.process.poll() is None:
        stop(running)


def until(condition, timeout_s: float, what: str) -> float:
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            pytest.fail(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.1)
    return time.monotonic() - began


def test_ctrl_c_leaves_no_process_and_no_shared_memory(stack: Serving):
    """An orderly stop exits 0 and takes everything along."""
    below = stack.descendants()
    assert below
    assert stop(stack) == 0
    until(lambda: not any(command(pid) for pid in below), 10, "children gone")
    assert not leftovers(stack.process.pid)


def test_sigkill_of_the_gateway_leaves_no_process_and_no_shared_memory(stack: Serving):
    """Nobody is there to tidy up, and it is tidy all the same."""
    below = stack.descendants()
    stack.process.kill()
    stack.process.wait()
    until(lambda: not any(command(pid) for pid in below), 15, "children gone")
    until(lambda: not leftovers(stack.process.pid), 15, "shared memory gone")


def leftovers(pid: int) -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith("searchbar_") and f"_{pid}_" in name]


def test_a_taken_port_is_a_clear_error(demo_index: Path):
    """The message names the port and the cure, and nothing was started."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [SEARCHBAR, "serve", "--port", str(port), "--index", str(demo_index)], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_index_that_is_not_there_is_a_clear_error(tmp_path: Path):
    """The message names the directory and the command that makes an index."""
    arguments = ["--port", str(free_port()), "--index", str(tmp_path / "none")]
    done = subprocess.run([SEARCHBAR, "serve", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "searchbar index" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
