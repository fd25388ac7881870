"""When cycles are looked for, and that they are."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from app.garbage import EVERY_S, PATIENCE, YOUNG, Garbage


class Knot:
    """Refers to itself."""

    def __init__(self) -> None:
        self.end = self


@pytest.fixture
def garbage() -> Iterator[Garbage]:
    """This process's collector is given back as it was."""
    before = gc.get_threshold()
    yield Garbage(0.0)
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("now", "idle", "gone"),
    [
        pytest.param(EVERY_S, True, True, id="its time, and nothing under way"),
        pytest.param(EVERY_S - 1, True, False, id="not yet its time"),
        pytest.param(EVERY_S, False, False, id="requests are under way"),
        pytest.param(PATIENCE * EVERY_S, False, True, id="they have been for long"),
    ],
)
def test_cycles_go_when_nobody_waits(garbage: Garbage, now: float, idle: bool, gone: bool) -> None:
    """A knot that nothing refers to stays until its time has come and no request would be stopped, or none ever ends."""
    knot = weakref.ref(Knot())
    garbage.tick(now, idle)
    assert (knot() is None) == gone


def test_python_s_own_schedule_ends() -> None:
    """With 300,000 objects more than before no generation but the youngest has been looked at."""
    code = """
import gc
from app.garbage import Garbage
Garbage(0.0)
before = gc.get_stats()
kept = [[n] for n in range(300_000)]
print([after["collections"] - then["collections"] for then, after in zip(before, gc.get_stats())])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    young, *older = json.loads(done.stdout)
    assert older == [0, 0] and 0 < young <= 300_000 // YOUNG
