"""Who has a core when there are not enough: a thread before everything else (real time), or after it (idle).

Linux lets a thread that wakes wait until another has had its slice of some milliseconds, at any difference of `nice`. For an
event loop that is longer than a refusal may take, and for a load generator it is time that its server would be charged for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import SetupError

LOWEST = 1  # of the real-time priorities: before everything ordinary


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
