"""Who has a core when there are not enough: a thread before everything else (real time), or after it (idle).

Linux lets a thread that wakes wait until another has had its slice of some milliseconds, at any difference of `nice`. For an
event loop that is longer than a refusal may take, and for a load generator it is time that its server would be charged for.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import SetupError

LOWEST = 1  # of the real-time priorities: before everything ordinary
LOOK_S, REST_S, FULL = 0.01, 0.0006, 0.93


@contextmanager
def realtime() -> Iterator[None]:
    """The calling thread has the lowest real-time priority (SCHED_RR); what it starts meanwhile has none.

    Raises:
        SetupError: it may not have it: that takes root, CAP_SYS_NICE or a limit on rtprio (`ulimit -r`) of 1 or more.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(LOWEST))
    except (OSError, AttributeError) as exc:  # not allowed; not Linux
        raise SetupError(f"no real-time priority ({exc}): it takes root, CAP_SYS_NICE or `ulimit -r 1`") from exc
    try:
        yield
    finally:  # without privileges, what is reset on forks stays so
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


async def give_way(
    clock: Callable[[], float] = time.monotonic,
    used: Callable[[], float] = time.thread_time,
    rest: Callable[[float], None] = time.sleep,
) -> None:
    """Have an event loop of real-time priority rest for `REST_S` after each `LOOK_S` in which it had its core throughout.

    Linux keeps 50 ms of each second for everything ordinary (sched(7), "Limiting the CPU usage of real-time and deadline
    processes"), and takes them in one piece from who does not rest; in 0.6 ms after 10 nobody waits for long. Never returns.

    Args:
        clock, used: seconds since anything, and seconds of processor time of this thread.
        rest: sleeps, and the event loop with it.
    """
    while True:
        since, so_far = clock(), used()
        await asyncio.sleep(LOOK_S)
        if used() - so_far > FULL * (clock() - since):
            rest(REST_S)


@contextmanager
def idle() -> Iterator[None]:
    """The calling thread, and what it starts meanwhile, have a core when nothing else in this session or container wants it."""
    if not hasattr(os, "SCHED_IDLE") or os.sched_getscheduler(0) != os.SCHED_OTHER:  # not Linux, or somebody has chosen
        yield
        return
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def allowed() -> bool:
    """Whether this thread may have real-time priority."""
    try:
        with realtime():
            return True
    except SetupError:
        return False
