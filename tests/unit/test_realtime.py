"""Real-time priority: for one thread, for a while, or a clear refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Thread

import pytest

from app.errors import SetupError
from app.realtime import allowed, realtime

ASK = "import os; print(os.sched_getscheduler(0))"


def policy() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


@pytest.mark.skipif(not allowed(), reason="no right to real-time priority here")
def test_a_thread_has_it_meanwhile_and_what_it_starts_has_not() -> None:
    """Processes and threads that are started meanwhile are ordinary; afterwards the thread is, too."""
    found = []
    with realtime():
        inside = policy()
        child = subprocess.run([sys.executable, "-I", "-S", "-c", ASK], capture_output=True, text=True, check=True)
        thread = Thread(target=lambda: found.append(policy()))
        thread.start()
        thread.join()
    assert inside == os.SCHED_RR
    assert [policy(), int(child.stdout), *found] == [os.SCHED_OTHER] * 3


def test_who_may_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named, and nothing is run without it."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(SetupError, match=r"Operation not permitted.*CAP_SYS_NICE"), realtime():
        pytest.fail("it was let in")
    assert not allowed()
