"""Starts one Triton server and sees to it that nothing of it is left behind, whatever happens to the process that asked.

Run as a script by `triton_process.py`, with the standard library alone, so that it starts in milliseconds. It stands between
the two because only a live process can clean up after a SIGKILL of the gateway:

- its standard input is a pipe from the gateway. A line ``stop`` asks for an orderly stop; the end of the stream, which the
  kernel brings about when the gateway dies in any way, kills the server at once;
- it is a child subreaper: backend stubs that outlive the server become its children, and are killed;
- the server has PR_SET_PDEATHSIG on this process, whose one thread lives as long as it does;
- last of all it removes the server's shared-memory files and scratch directories.

Its standard output tells the server's process id, one line ``pid N``; its exit status is the server's, 128 + N for signal N.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SHM = Path("/dev/shm")  # where glibc's shm_open puts its files
_TMP = Path("/tmp")  # hard-coded in Triton's python backend
IDLE, LOW = "idle", "low"
_NICE = 10


def leave_the_terminal(priority: str) -> None:
    """Ctrl-C is for the gateway, which stops the server in its own order.

    `IDLE` counts among the gateway's processes alone: Linux groups by session, and weighs the groups, before it looks at that.
    """
    if priority == IDLE:
        os.setpgid(0, 0)
    else:
        os.setsid()
        with suppress(OSError):  # a kernel without autogroups
            Path("/proc/self/autogroup").write_text(str(_NICE))


def yield_to_the_owner(priority: str) -> None:
    """The gateway comes first, refusals above all; the models have what it leaves (docs/adr/0019-admission.md).

    What this process starts inherits it.

    Args:
        priority: `IDLE`, and whatever else wakes has the core at once; `LOW`, and it waits for the slice to end, at most.
    """
    if priority == IDLE:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(_NICE)


def _namespace_prefix() -> str:
    return f"searchbar_{os.stat('/proc/self/ns/pid').st_ino}_"


def owner_prefix(pid: int) -> str:
    """What the names of all shared memory and scratch directories of the process `pid` begin with.

    The PID namespace is part of it: containers that share /dev/shm must not take each other's owners for dead.
    """
    return f"{_namespace_prefix()}{pid}_"


def sweep_shared_memory(prefix: str) -> None:
    """Removes the shared-memory files whose names begin with `prefix`."""
    for path in _SHM.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def sweep_scratch(prefix: str, scratch_root: Path) -> None:
    """Removes the directories in `scratch_root` whose names begin with `prefix`."""
    for path in scratch_root.glob(f"{prefix}*"):
        shutil.rmtree(path, ignore_errors=True)


def sweep_orphans(scratch_root: Path) -> None:
    """Removes what dead owners left: there is something only when a launcher was killed together with its owner."""
    prefix = _namespace_prefix()
    for path in (*_SHM.glob(f"{prefix}*"), *scratch_root.glob(f"{prefix}*")):
        owner = path.name.removeprefix(prefix).split("_", 1)[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            sweep_shared_memory(owner_prefix(int(owner)))
            sweep_scratch(owner_prefix(int(owner)), scratch_root)
    sweep_backend_directories()


def sweep_backend_directories() -> None:
    """Removes the empty /tmp/python_env_XXXXXX that each killed python backend leaves; its name cannot be chosen.

    They carry no owner, so they go only while no server of any owner runs. Listed first, looked for servers second: a
    server that starts in between has not made any of those listed.
    """
    listed = [path for path in _TMP.glob("python_env_*") if path.is_dir() and path.stat().st_uid == os.getuid()]
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().strip() == "tritonserver" and _state(int(comm.parent.name))[0] != "Z":
                return
        except OSError:  # that process has ended meanwhile
            continue
    for path in listed:
        try:
            path.rmdir()
        except OSError:  # not empty: somebody's unpacked environment
            continue


def _state(pid: int) -> tuple[str, int]:
    """State letter and parent of a process. Raises OSError when there is none."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1])


def children(pid: int) -> dict[int, str]:
    """State letter (``Z`` for dead and not waited for) of each child process of `pid`."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, parent = _state(int(entry))
            except OSError:
                continue
            if parent == pid:
                found[int(entry)] = state
    return found


def is_dead_child(pid: int, parent: int) -> bool:
    """True when `pid` is a child of `parent` that has died without `parent` noticing."""
    try:
        return _state(pid) == ("Z", parent)
    except OSError:
        return False


class Launcher:
    """One server's life, from fork to the last swept file."""

    def __init__(self, owner: int, grace_s: float, priority: str, command: list[str]) -> None:
        self._owner = owner
        self._grace_s = grace_s
        self._priority = priority
        self._command = command
        self._server = 0
        self._kill_at: float | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)

    def run(self) -> int:
        """Starts the server and waits for its end or the owner's. Returns the exit status."""
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        wake, wake_write = os.pipe()
        for fd in (wake, wake_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        launcher = os.getpid()
        leave_the_terminal(self._priority)
        self._server = os.fork()
        if self._server == 0:
            self._become_server(launcher)
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        os.write(1, f"pid {self._server}\n".encode())
        status = self._wait(wake)
        self._kill_rest()
        return status

    def _become_server(self, launcher: int) -> NoReturn:
        try:
            os.setpgid(0, 0)
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != launcher:  # it died before the line above took effect
                os._exit(1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            yield_to_the_owner(self._priority)
            os.dup2(2, 1)  # standard output is the launcher's own channel
            os.execv(self._command[0], self._command)
        except OSError as exc:
            os.write(2, f"error: cannot start {self._command[0]}: {exc}\n".encode())
        finally:
            os._exit(127)

    def _wait(self, wake: int) -> int:
        watched = [0, wake]
        while True:
            timeout_s = 1.0 if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
            ready, _, _ = select.select(watched, [], [], timeout_s)
            if wake in ready:
                os.read(wake, 4096)
            if 0 in ready:
                line = os.read(0, 4096)
                if line:
                    self._stop()
                else:
                    watched.remove(0)
                    self._kill()
            if os.getppid() != self._owner or (self._kill_at is not None and time.monotonic() >= self._kill_at):
                self._kill()  # the end of stdin tells the first as well, unless a forked child of the owner holds the pipe
            status = self._reap()
            if status is not None:
                return status

    def _reap(self) -> int | None:
        """Waits for every dead child; the server's exit status when it was among them."""
        result = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return result
            if pid == 0:
                return result
            if pid == self._server:
                code = os.waitstatus_to_exitcode(status)
                result = code if code >= 0 else 128 - code

    def _stop(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace_s
            with suppress(ProcessLookupError):  # the signal's handler may run when the server has just ended
                os.kill(self._server, signal.SIGTERM)

    def _kill(self) -> None:
        self._kill_at = time.monotonic() + 1.0
        try:
            os.killpg(self._server, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # nothing left, or the child is not in its own group yet
            os.kill(self._server, signal.SIGKILL)

    def _kill_rest(self) -> None:
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            orphans = children(os.getpid())
            if not orphans:
                return
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
            self._reap()


def main(arguments: list[str]) -> int:
    """``triton_launcher.py OWNER_PID PREFIX SCRATCH_ROOT GRACE_S PRIORITY COMMAND …``; returns the server's exit status.

    The scratch directories outlive a server that is to be started again, not their owner.
    """
    owner, prefix, scratch_root, grace_s, priority, *command = arguments
    try:
        return Launcher(int(owner), float(grace_s), priority, command).run()
    finally:
        sweep_shared_memory(prefix)
        if os.getppid() != int(owner):
            sweep_scratch(prefix, Path(scratch_root))
        sweep_backend_directories()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
