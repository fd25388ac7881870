"""When cycles are looked for, and that they are."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from app.garbage import ALL_EVERY_S, CROWD, NEW_EVERY_S, PATIENCE, YOUNG, Garbage


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
    ("old", "now", "idle", "gone"),
    [
        pytest.param(False, NEW_EVERY_S, True, True, id="new, its time, and nothing under way"),
        pytest.param(False, NEW_EVERY_S - 1, True, False, id="new, not yet its time"),
        pytest.param(False, NEW_EVERY_S, False, False, id="new, requests are under way"),
        pytest.param(False, PATIENCE * NEW_EVERY_S, False, True, id="new, they have been for long"),
        pytest.param(True, ALL_EVERY_S - 1, True, False, id="old, not yet its time"),
        pytest.param(True, ALL_EVERY_S, False, False, id="old, requests are under way"),
        pytest.param(True, ALL_EVERY_S, True, True, id="old, its time, and nothing under way"),
        pytest.param(True, PATIENCE * ALL_EVERY_S, False, True, id="old, they have been for long"),
    ],
)
def test_cycles_go_when_nobody_waits(garbage: Garbage, old: bool, now: float, idle: bool, gone: bool) -> None:
    """A knot that nothing refers to stays until its time has come and no request would be stopped, or none ever ends."""
    tied = Knot()
    if old:  # it has outlived a look at the new
        gc.collect(1)
    knot = weakref.ref(tied)
    del tied
    garbage.tick(now, idle)
    assert (knot() is None) == gone


def test_a_crowd_is_looked_at_whoever_waits(garbage: Garbage) -> None:
    """Under a load that never ends new objects are looked at before they are so many that requests wait long for it."""
    knot = weakref.ref(Knot())
    kept = [[n] for n in range((CROWD - 1) * YOUNG)]
    garbage.tick(0.1, idle=False)
    assert gc.get_count()[1] > 0
    kept += [[n] for n in range(3 * YOUNG)]
    garbage.tick(0.2, idle=False)
    assert gc.get_count()[1] == 0 and knot() is None


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
