"""A `searchbar serve` to drive: started, asked how busy it was, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.errors import SetupError

TICK = os.sysconf("SC_CLK_TCK")
START_S = 120.0
SEARCHBAR = Path(sys.executable).parent / "searchbar"


@dataclass(frozen=True, slots=True)
class Target:
    """A server to drive.

    Attributes:
        url: where it answers.
        pid: root of its processes, where it runs on this machine and we started it.
        socket: file of its Unix-domain socket, where the load is to come by that.
    """

    url: str
    pid: int | None = None
    socket: Path | None = None

    @property
    def way(self) -> str:
        """How requests come to it, in words."""
        return "by a Unix-domain socket" if self.socket else "by TCP"

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds so far by process name, summed over the process tree; empty when it is not ours."""
        found: dict[str, float] = {}
        for pid in tree(self.pid) if self.pid else ():
            if (used := process_cpu(pid)) is not None:
                name, seconds = used
                found[name] = found.get(name, 0.0) + seconds
        return found

    def memory(self) -> int:
        """Proportional set size of the process tree in bytes: pages shared between its processes count once."""
        return sum(proportional_set(pid) for pid in tree(self.pid)) if self.pid else 0

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to every process of the tree."""
        for pid in tree(self.pid) if self.pid else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def lookups(self) -> dict[str, float]:
        """Cache lookups so far by outcome: hit, miss, shared."""
        found: dict[str, float] = {}
        for line in httpx.get(f"{self.url}/metrics", timeout=10).text.splitlines():
            if line.startswith("searchbar_cache_total{"):
                labels, value = line.rsplit(" ", 1)
                outcome = labels.split('outcome="')[1].split('"')[0]
                found[outcome] = found.get(outcome, 0.0) + float(value)
        return found


@contextmanager
def started(
    environment: Mapping[str, str],
    log: Path,
    command: tuple[str, ...] = (),
    ready: str = "/readyz",
    *,
    by_socket: bool = False,
) -> Iterator[Target]:
    """A server of our own on a free port of this machine, with these settings; gone at the end, and all that it started.

    Args:
        command: instead of `searchbar serve`; ``{port}`` in it is replaced.
        ready: path that answers 200 once it serves.
        by_socket: `searchbar serve` listens on a Unix-domain socket too, and is to be driven by that.

    Raises:
        SetupError: it did not turn ready.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    arguments = [part.format(port=port) for part in command] or [str(SEARCHBAR), "serve", "--port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    file = Path(tempfile.gettempdir()) / f"searchbar-{os.getpid()}-{port}.sock" if by_socket else None
    beside = {"SEARCHBAR_SOCKET": str(file)} if file else {}
    with log.open("wb") as sink:
        process = subprocess.Popen(arguments, stdout=sink, stderr=sink, env={**os.environ, **environment, **beside})
    target = Target(f"http://127.0.0.1:{port}", process.pid, file)
    try:
        wait_until_ready(target.url + ready, process, log)
        yield target
    finally:
        target.signal(signal.SIGCONT)  # whoever was stopped could not end
        below = {pid: born for pid in tree(process.pid)[1:] if (born := birth(pid))}
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid, born in below.items():
            if birth(pid) == born:  # not another process under the same number
                os.kill(pid, signal.SIGKILL)
        if file:
            file.unlink(missing_ok=True)  # a server that was killed has left it


def birth(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Raises SetupError when `url` does not answer 200 in time."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url, timeout=3).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SetupError(f"the server did not turn ready: see {log}")


def tree(root: int) -> list[int]:
    """`root` and the processes below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def proportional_set(pid: int, part: str = "Pss") -> int:
    """Proportional set size of a process in bytes, or a part of it as /proc/PID/smaps_rollup names it; 0 when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{part}:"))


def process_cpu(pid: int) -> tuple[str, float] | None:
    """Name and processor seconds of a process; a Triton stub is named after its model."""
    try:
        name, fields = Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
        line = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return None
    if "python_backend_stub" in line[0]:
        model = next((part for part in "/".join(line).split("/") if part.partition("_")[0] in ("speller", "embedder")), "")
        name = model or name
    used = fields.split()
    return name, (int(used[11]) + int(used[12])) / TICK


def idle_s() -> float:
    """Seconds so far that the cores of this machine had nothing to do, summed over them."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / TICK
