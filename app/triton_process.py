"""One life of the Triton server process: its launcher, its log, its backend stubs, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app import triton_launcher
from app.errors import SetupError

_log = logging.getLogger("searchbar.triton")

_GLOG = re.compile(r'^([IWEF])\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] *"?(.*?)"?$')
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_NO_GPU = re.compile(
    r"unable to create stream|NVML|DCGM|CudaDriverHelper|CUDA memory pool|pinned (system )?memory|CUDA driver version",
    re.IGNORECASE,
)
_TABLE = re.compile(r"^[+|]|^$")
_TAIL_LINES = 200
_LONGEST_LINE = 1 << 20  # bytes; a model's traceback comes as one line
_START_S = 10.0  # for the launcher to report the server's process id


def parse_log_line(line: str) -> tuple[int, str]:
    """Level and message of one line of Triton's log.

    Levels come from glog's I, W, E, F prefix; lines without one (a model's prints, tracebacks) are information. The start-up
    tables, and what Triton says about a GPU that is not there, are demoted to debug.
    """
    match = _GLOG.match(line)
    level, message = (_LEVELS[match[1]], match[2]) if match else (logging.INFO, line)
    if line.startswith(("error:", "[libprotobuf ERROR")):
        level = logging.ERROR
    if _TABLE.search(message) or _NO_GPU.search(message):
        level = logging.DEBUG
    return level, message


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """What to run, and how to clean up after it.

    Attributes:
        arguments: the executable's path and its arguments.
        prefix: what the names of its shared-memory files and scratch directories begin with: what the launcher removes.
        scratch_root: where those directories lie. They go only when this process has: another server may be started in them.
        grace_s: how long an orderly stop may take before the server is killed.
        priority: of the server and its stubs, `triton_launcher.IDLE` or `LOW`.
    """

    arguments: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    prefix: str
    scratch_root: Path
    grace_s: float
    priority: str


class ServerProcess:
    """A running server and its launcher; made by `spawn`.

    Attributes:
        pid: the server's process id, and its process group's.
        tail: the last 200 lines of its log as (level, message).
    """

    def __init__(
        self,
        command: ServerCommand,
        launcher: asyncio.subprocess.Process,
        pid: int,
        pump: asyncio.Task[None],
        tail: deque[tuple[int, str]],
    ) -> None:
        self._launcher = launcher
        self._command = command
        self._pump = pump
        self._stubs: frozenset[int] = frozenset()
        self.pid = pid
        self.tail = tail
        self.ended = asyncio.ensure_future(self._wait())

    @classmethod
    async def spawn(cls, command: ServerCommand) -> ServerProcess:
        """Starts `command` behind a launcher.

        Raises:
            SetupError: the launcher did not come up.
        """
        launcher = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", triton_launcher.__file__),
            *(str(os.getpid()), command.prefix, str(command.scratch_root), str(command.grace_s)),
            *(command.priority, *command.arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(command.env),
            cwd=command.cwd,
            limit=_LONGEST_LINE,
        )
        assert launcher.stdin is not None and launcher.stdout is not None and launcher.stderr is not None
        tail: deque[tuple[int, str]] = deque(maxlen=_TAIL_LINES)
        pump = asyncio.create_task(_pump(launcher.stderr, tail))
        try:
            first = await asyncio.wait_for(launcher.stdout.readline(), _START_S)
        except BaseException:
            launcher.stdin.close()  # tells the launcher to kill what it has started
            raise
        if not first.startswith(b"pid "):
            await pump
            raise SetupError("the Triton launcher did not start:\n" + "\n".join(message for _, message in tail))
        return cls(command, launcher, int(first.split()[1]), pump, tail)

    async def _wait(self) -> str:
        """How the server ended, in words, once the log is complete."""
        code = await self._launcher.wait()
        if code < 0:
            _kill_group(self.pid)  # this and the next are what the launcher can no longer do
            triton_launcher.sweep_shared_memory(self._command.prefix)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._pump, 2.0)
        if code > 128:
            return f"tritonserver (pid {self.pid}) was killed by signal {_signal_name(code - 128)}"
        if code < 0:
            return f"the launcher of tritonserver (pid {self.pid}) was killed by signal {_signal_name(-code)}"
        return f"tritonserver (pid {self.pid}) exited with status {code}"

    def remember_stubs(self) -> None:
        """Notes which backend stubs there are, once all models are ready: `dead_stub` watches them."""
        self._stubs = frozenset(triton_launcher.children(self.pid))

    def dead_stub(self) -> int | None:
        """Process id of a backend stub that has died, or None.

        Triton neither restarts it nor waits for it, and goes on saying that the model is ready. A stub that is gone altogether
        was stopped by Triton itself.
        """
        return next((pid for pid in self._stubs if triton_launcher.is_dead_child(pid, self.pid)), None)

    def complaint(self) -> str:
        """The errors in its log, or the end of the log when it named none; indented lines."""
        errors = [message for level, message in self.tail if level >= logging.ERROR]
        lines = errors or [message for _, message in self.tail if message][-15:]
        return "\n".join(f"  {line}" for text in lines for line in text.replace("\\n", "\n").splitlines() if line)

    async def stop(self) -> None:
        """Asks for an orderly stop and waits for it; the launcher kills the server after its grace."""
        stdin = self._launcher.stdin
        assert stdin is not None
        with suppress(ConnectionError, RuntimeError):
            stdin.write(b"stop\n")
        await self._finish(self._command.grace_s + 5.0)

    async def kill(self) -> None:
        """Kills the server and its stubs at once and waits until nothing is left of them."""
        stdin = self._launcher.stdin
        assert stdin is not None
        stdin.close()
        await self._finish(5.0)

    async def _finish(self, timeout_s: float) -> None:
        done, _ = await asyncio.wait({self.ended}, timeout=timeout_s)
        if not done:
            _log.error("the launcher of tritonserver (pid %d) did not finish in %.0f s: killing both", self.pid, timeout_s)
            _kill_group(self.pid)
            with suppress(ProcessLookupError):
                self._launcher.kill()
            await asyncio.wait({self.ended}, timeout=5.0)
        self._pump.cancel()


async def _pump(stream: asyncio.StreamReader, tail: deque[tuple[int, str]]) -> None:
    """Copies the server's log into Python's logging until it ends."""
    while True:
        try:
            raw = await stream.readline()
        except ValueError:  # a line longer than the limit; the reader has dropped it
            raw = b"(a line of the log was too long and is left out)\n"
        if not raw:
            return
        level, message = parse_log_line(raw.decode("utf-8", "replace").rstrip())
        tail.append((level, message))
        _log.log(level, "%s", message)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)
