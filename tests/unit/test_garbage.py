"""When cycles are looked for, and that they are."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from app.garbage import A_FEW, ALL_EVERY_S, CROWD, NEW_EVERY_S, NEXT_TO_NOTHING, PATIENCE, Garbage


class Knot:
    """Refers to itself."""

    def __init__(self) -> None:
        self.end = self


@pytest.fixture
def garbage() -> Iterator[Garbage]:
    """This process's collector is given back as it was."""
    yield Garbage(0.0)
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize(
    ("old", "now", "idle", "gone"),
    [
        pytest.param(False, NEW_EVERY_S, True, True, id="new, its time, and nothing under way"),
        pytest.param(False, NEW_EVERY_S - 1, True, False, id="new, not yet its time"),
        pytest.param(False, NEW_EVERY_S, False, False, id="new, requests are under way"),
        pytest.param(False, PATIENCE * NEW_EVERY_S, False, False, id="new, they have been for long: put aside"),
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


def test_a_crowd_is_put_aside(garbage: Garbage) -> None:
    """Under a load that never ends nobody waits for a look at what is new, and the next look has nothing to do with it."""
    looks, aside = [generation["collections"] for generation in gc.get_stats()], gc.get_freeze_count()
    kept = [[n] for n in range(CROWD - 1_000)]
    garbage.tick(0.1, idle=False)
    assert gc.get_freeze_count() <= aside
    kept += [[n] for n in range(2_000)]
    garbage.tick(0.2, idle=False)
    assert gc.get_freeze_count() >= aside + len(kept)
    assert [generation["collections"] for generation in gc.get_stats()] == looks


@pytest.mark.parametrize(("knots", "tidy"), [(A_FEW, True), (A_FEW + 1, False)])
def test_under_a_load_that_never_ends_a_sample_is_looked_at(garbage: Garbage, knots: int, tidy: bool) -> None:
    """What came between two ticks; where that holds more than a few cycles, the next crowd is looked at, else put aside."""
    now, looks = PATIENCE * NEW_EVERY_S, gc.get_stats()
    garbage.tick(now, idle=False)
    assert gc.get_stats() == looks
    tied = [Knot() for _ in range(knots)]
    knot = weakref.ref(tied[0])
    del tied
    garbage.tick(now + 0.1, idle=False)
    assert knot() is None
    knot = weakref.ref(Knot())
    kept = [[n] for n in range(CROWD)]
    garbage.tick(now + 0.2, idle=False)
    assert (knot() is not None) == tidy and len(kept) == CROWD


def test_where_much_is_in_cycles_nothing_is_put_aside(garbage: Garbage) -> None:
    """A look that finds many makes the next crowds be looked at, whoever waits, until one finds next to nothing."""
    knots = [Knot() for _ in range(NEXT_TO_NOTHING + 1)]
    del knots
    garbage.tick(NEW_EVERY_S, idle=True)
    knot = weakref.ref(Knot())
    kept = [[n] for n in range(CROWD)]
    garbage.tick(NEW_EVERY_S + 0.1, idle=False)
    assert knot() is None
    knot, aside = weakref.ref(Knot()), gc.get_freeze_count()
    kept += [[n] for n in range(2 * CROWD)]
    garbage.tick(NEW_EVERY_S + 0.2, idle=False)
    assert knot() is not None and gc.get_freeze_count() >= aside + 2 * CROWD


def test_python_s_own_schedule_ends() -> None:
    """With 300,000 objects more than before no generation has been looked at."""
    code = """
import gc
from app.garbage import Garbage
Garbage(0.0)
before = gc.get_stats()
kept = [[n] for n in range(300_000)]
assert gc.get_stats() == before, (before, gc.get_stats())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
