"""The whole stack as a newcomer starts it: the `searchbar` command in processes of its own, on free ports."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

import app

SEARCHBAR = str(Path(sys.executable).parent / "searchbar")
DEMO = Path(app.__file__).parent / "data" / "demo.csv"
START_S = 90.0  # generous: CI machines are slow


@dataclass(frozen=True)
class Serving:
    """A running `searchbar serve`.

    Attributes:
        started_s: how long it took to be ready.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    started_s: float = 0.0

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def descendants(self, name: str = "") -> list[int]:
        """Process ids below the server whose command line holds `name`."""
        return descendants(self.process.pid, name)


def descendants(root: int, name: str = "") -> list[int]:
    """Process ids below `root`, from /proc, whose command line holds `name`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    below, frontier = [], {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        below += sorted(frontier)
    return [pid for pid in below if name in command(pid)]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(index: Path | str, log: Path, settings: Mapping[str, str] | None = None, ca: Path | None = None) -> Serving:
    """Start `searchbar serve` with these settings and wait until it says that it is ready; by HTTPS where a `ca` is given."""
    port = free_port()
    environment = {**os.environ, "SEARCHBAR_LOG_LEVEL": "warning", **(settings or {})}
    verify = ssl.create_default_context(cafile=ca) if ca else True
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [SEARCHBAR, "serve", "--port", str(port), "--index", str(index)], stdout=sink, stderr=sink, env=environment
        )
    serving = Serving(process, f"http{'s' if ca else ''}://127.0.0.1:{port}", log)
    began = time.monotonic()
    while time.monotonic() < began + START_S:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{serving.url}/readyz", timeout=2, verify=verify).status_code == 200:
                return replace(serving, started_s=time.monotonic() - began)
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    process.kill()
    pytest.fail(f"searchbar serve did not turn ready:\n{log.read_text()}")


def stop(serving: Serving) -> int:
    """Ctrl-C, and the exit status."""
    if serving.process.poll() is None:
        serving.process.send_signal(signal.SIGINT)
    return serving.process.wait(30)


@pytest.fixture(scope="session")
def demo_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo catalogue indexed by the real command with the real embedder."""
    out = tmp_path_factory.mktemp("index") / "demo"
    done = subprocess.run([SEARCHBAR, "index", str(DEMO), "--out", str(out)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def serving(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One stack shared by the tests that leave it as they found it."""
    running = start(demo_index, tmp_path_factory.mktemp("log") / "serve.log")
    yield running
    stop(running)
