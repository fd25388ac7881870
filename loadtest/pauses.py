"""When the machine had a core for nobody: time that no program on it can answer for.

The host of a virtual machine takes its cores away now and then, for milliseconds at a time. As with Gil Tene's jHiccup
(https://github.com/giltene/jHiccup), somebody who has nothing else to do looks at the clock every millisecond: here one process
on each core, before all others (SCHED_FIFO). What they miss is the machine's own

- where all cores missed it at the same time;
- where a single core did, up to the moment when Linux woke the watcher, by its own account of who waited for a core for how
  long (/proc/self/schedstat): until then not even the core's timer had been served. The time from then on may be the kernel's
  work for the programs that are measured.

Run as a script with the number of a core it is such a watcher, until SIGTERM or the end of whoever started it; then it prints
what it missed, a line each.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

PERIOD_S = 0.001
LATE_S = 0.001  # after which a watcher that should have woken has missed something
PRIORITY = 2  # of the real-time priorities: before the generator (app/priority.py)


@dataclass(frozen=True, slots=True, order=True)
class Pause:
    """From when to when nothing ran, in seconds of `time.perf_counter`, which all processes share on Linux."""

    since: float
    until: float

    @property
    def ms(self) -> float:
        return 1000 * (self.until - self.since)


class Missed(NamedTuple):
    """When one core did not serve its highest priority.

    Attributes:
        since, until: from when to when, in seconds of `time.perf_counter`.
        woken: when Linux had woken who was to be served.
    """

    since: float
    woken: float
    until: float


@contextmanager
def watched() -> Iterator[list[Pause]]:
    """Watch meanwhile; the list is filled at the end, and stays empty where real-time priority is not to be had."""
    found: list[Pause] = []
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    command = [sys.executable, "-I", "-S", __file__]
    watchers = [
        subprocess.Popen([*command, str(core)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for core in cores
    ]
    try:
        willing = [bool(watcher.stdout and watcher.stdout.readline()) for watcher in watchers]
        yield found
    finally:
        for watcher in watchers:
            watcher.terminate()
        said = [watcher.communicate()[0] for watcher in watchers]
    if watchers and all(willing):
        found += the_machines([read(lines) for lines in said])


def read(lines: str) -> list[Missed]:
    """What a watcher printed."""
    return [Missed(*map(float, line.split())) for line in lines.splitlines()]


def the_machines(cores: Sequence[Sequence[Missed]]) -> list[Pause]:
    """When all cores were away at once, or one that was not even woken: in order of time, none over another."""
    found: list[Pause] = []
    asleep = [Pause(one.since, one.woken) for core in cores for one in core if one.woken - one.since > LATE_S]
    for pause in sorted([*together([[Pause(one.since, one.until) for one in core] for core in cores]), *asleep]):
        if found and pause.since <= found[-1].until:
            found[-1] = Pause(found[-1].since, max(found[-1].until, pause.until))
        else:
            found.append(pause)
    return found


def together(cores: Sequence[Sequence[Pause]]) -> list[Pause]:
    """What all cores missed at the same time, each core's in order of time."""
    found = list(cores[0]) if cores else []
    for core in cores[1:]:
        found = both(found, core)
    return found


def both(some: Sequence[Pause], others: Sequence[Pause]) -> list[Pause]:
    """Where two sequences overlap."""
    found = []
    for one in some:
        for other in others:
            since, until = max(one.since, other.since), min(one.until, other.until)
            if since < until:
                found.append(Pause(since, until))
    return found


def paused_ms(pauses: Sequence[Pause], since: float, until: float) -> float:
    """How much of the time from `since` to `until` was a pause, in milliseconds."""
    return 1000 * sum(max(0.0, min(one.until, until) - max(one.since, since)) for one in pauses)


def watch(core: int) -> None:
    """Look at the clock every millisecond on `core` until SIGTERM, or nobody is left to be told; print what was missed.

    Raises:
        PermissionError: real-time priority is not to be had.
    """
    missed: list[Missed] = []
    parent, over = os.getppid(), False

    def end(*_: object) -> None:
        nonlocal over
        over = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for whoever started it
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    print("watching", flush=True)
    waited = waiting()
    due, before = time.perf_counter() + PERIOD_S, next(waited)
    while not over and os.getppid() == parent:
        time.sleep(max(0.0, due - time.perf_counter()))
        now, so_far = time.perf_counter(), next(waited)
        if now - due > LATE_S:
            missed.append(Missed(due, max(due, now - (so_far - before)), now))
        due, before = now + PERIOD_S, so_far
    for one in missed:
        print(" ".join(f"{at:.6f}" for at in one))


def waiting(path: str = "/proc/self/schedstat") -> Iterator[float]:
    """Seconds so far that this thread was woken and had no core; where Linux does not say, as if it were at any time.

    It does not where the file is missing, or counts nothing: then who reads it has never had a core either.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        yield from itertools.count()
        return
    while int((fields := os.pread(file, 64, 0).split())[2]):
        yield int(fields[1]) / 1e9
    yield from itertools.count()


if __name__ == "__main__":
    watch(int(sys.argv[1]))
