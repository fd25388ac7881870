"""The overload: which rates it tries, and what it makes of what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import loadtest.overload
from loadtest.connections import Sample
from loadtest.overload import (
    AFTER,
    BEFORE,
    BURST,
    OVERLOADS,
    RAMP,
    Overload,
    Overloaded,
    Phase,
    Round,
    missed_overload,
    phase,
    rates,
    run_overload,
    shortened,
    sustained,
)
from loadtest.pauses import Pause
from loadtest.server import Target

OVERLOAD = OVERLOADS["overload"]
BUDGET_MS = OVERLOAD.load.p90_ms


def step(rate: float, p90_ms: float = 10.0, answered: float | None = None) -> Phase:
    return Phase(RAMP, rate, rate if answered is None else answered, p90_ms, 0, (), 0.0, {}, {})


def tried(overload: Overload, limit: float, stalls: int = 0) -> list[Phase]:
    """The ramp of a server that holds rates up to `limit`, but misses the first `stalls` whatever they are."""
    ramp: list[Phase] = []
    for rate in rates(overload, ramp):
        ramp.append(step(rate, BUDGET_MS + 1 if rate > limit or len(ramp) < stalls else BUDGET_MS))
    return ramp


@pytest.mark.parametrize("stalls", [0, 1])
def test_the_ramp_finds_the_limit(stalls: int) -> None:
    """The best rate held is within a twentieth of the limit, and one stall does not end the ramp."""
    ramp = tried(OVERLOAD, 930.0, stalls)
    best = max(one.rate_per_s for one in ramp if one.held(BUDGET_MS))
    assert 0.95 * 930 <= best <= 930


def test_a_server_that_holds_nothing_is_tried_twice() -> None:
    """The ramp ends where it begins, and the verdict says so."""
    ramp = tried(OVERLOAD, 0.0)
    assert len(ramp) == 2
    assert missed_overload(OVERLOAD, Overloaded(ramp, None, [], [])) != []


def server(limit: float, lucky: int = 0) -> Callable[[float], Phase]:
    """Holds rates up to `limit`, and `lucky` times a higher one."""
    left = lucky

    def drive(rate: float) -> Phase:
        nonlocal left
        by_luck = rate > limit and left > 0
        left -= by_luck
        return step(rate, BUDGET_MS if by_luck or rate <= limit else BUDGET_MS + 1)

    return drive


@pytest.mark.parametrize("lucky", [0, 1, 2])
def test_the_maximum_is_held_after_the_ramp(lucky: int) -> None:
    """A rate that was held by luck is none; what is judged by is the last try."""
    ramp: list[Phase] = []
    normal = sustained(OVERLOAD, ramp, server(930.0, lucky))
    assert normal is ramp[-1] and 0.91 * 930 <= normal.rate_per_s <= 930
    assert sum(one.rate_per_s == normal.rate_per_s for one in ramp) == (1 if lucky else 2)  # by luck: a little less than that
    assert (max(one.rate_per_s for one in ramp if one.held(BUDGET_MS)) > 930) == (lucky > 0)


def test_a_rate_that_is_not_held_again_is_no_maximum() -> None:
    """What is held once alone is luck."""
    ramp: list[Phase] = []
    assert sustained(OVERLOAD, ramp, server(0.0, lucky=1)) is None
    assert any(one.held(BUDGET_MS) for one in ramp)


def test_a_phase_counts_what_became_of_its_requests() -> None:
    """Answers from when they were due, refusals from when they were sent, failures by kind."""
    samples = [Sample("/", 0.0, 1.0, 1.002, 200), Sample("/", 0.0, 1.0, 1.006, 429), Sample("/", 0.0, 1.0, 1.001, 429)]
    samples += [Sample("/", 0.0, 1.0, 1.1, 503), Sample("/", 0.0, 1.0, 1.1, 0, "connection lost")]
    found = phase(RAMP, 5.0, 1.0, samples, {}, 5.0)
    assert (found.goodput_per_s, found.p90_ms, found.refused) == (1.0, pytest.approx(1002.0), 2)
    assert found.refusal_ms[-1] == pytest.approx(6.0) and found.slow_refusals == 0.5
    assert found.failures == {"503": 1, "connection lost": 1}


def test_a_refusal_is_not_charged_for_the_time_the_machine_stood_still() -> None:
    """Of its 6 ms two were a pause, and four count; with half a millisecond of pause it is late anyway."""
    samples = [Sample("/", 0.0, 1.0, 1.006, 429), Sample("/", 0.0, 1.0, 1.001, 429)]
    found = phase(RAMP, 2.0, 1.0, samples, {}, 5.0, [Pause(0.9, 1.001), Pause(1.003, 1.004), Pause(2.0, 3.0)])
    assert (found.slow_refusals, found.slow_anyway) == (0.5, 0.0)
    assert found.pauses_ms == pytest.approx((101, 1, 1000))
    assert phase(RAMP, 2.0, 1.0, samples, {}, 5.0, [Pause(1.0, 1.0005)]).slow_anyway == 0.5


HELD = step(900.0, 20.0)
BEYOND = replace(step(2700.0, 39.0, 850.0), refused=50_000, refusal_ms=(0.5, 1.0, 2.0, 4.0))


@pytest.mark.parametrize(
    ("burst", "after", "missed"),
    [
        pytest.param(BEYOND, HELD, "", id="held"),
        pytest.param(replace(BEYOND, goodput_per_s=700.0), HELD, "goodput 78 %", id="too little answered"),
        pytest.param(replace(BEYOND, p90_ms=41.0), HELD, "p90 of the accepted", id="too slow"),
        pytest.param(
            replace(BEYOND, slow_refusals=0.002, slow_anyway=0.001),
            HELD,
            "150 of 150,000 refusals (0.1000 %) took",
            id="refusals too late",
        ),
        pytest.param(replace(BEYOND, slow_refusals=0.001), HELD, "", id="a refusal too late because of the machine"),
        pytest.param(replace(BEYOND, failures={"500": 1}), HELD, "3 × 500", id="a failure in each"),
        pytest.param(BEYOND, replace(HELD, p90_ms=50.0), "2 s after", id="still slow afterwards"),
        pytest.param(BEYOND, replace(HELD, refused=500), "500 refused", id="still refusing afterwards"),
    ],
)
def test_the_verdict_names_what_was_missed(burst: Phase, after: Phase, missed: str) -> None:
    """Each limit is checked on its own."""
    wrong = missed_overload(OVERLOAD, Overloaded([HELD], HELD, [Round(HELD, burst, after, after, HELD.p90_ms)] * 3, []))
    assert len(wrong) == bool(missed)
    assert missed in "".join(wrong)


@pytest.mark.parametrize(
    ("spoilt", "missed"),
    [
        pytest.param(Round(HELD, replace(BEYOND, goodput_per_s=700.0), HELD, HELD, 20.0), [], id="the machine was slow once"),
        pytest.param(Round(step(700.0), replace(BEYOND, goodput_per_s=650.0), HELD, HELD, 20.0), [], id="slow before as well"),
        pytest.param(Round(HELD, BEYOND, HELD, replace(HELD, p90_ms=50.0), 20.0), [], id="slow once afterwards"),
        pytest.param(Round(HELD, replace(BEYOND, slow_anyway=0.03), HELD, HELD, 20.0), ["(1.0000 %)"], id="late once"),
        pytest.param(Round(HELD, replace(BEYOND, failures={"500": 1}), HELD, HELD, 20.0), ["1 × 500"], id="failed once"),
        pytest.param(Round(replace(HELD, failures={"500": 1}), BEYOND, HELD, HELD, 20.0), ["1 × 500"], id="failed before"),
        pytest.param(
            Round(HELD, BEYOND, replace(HELD, failures={"500": 1}), HELD, 20.0), ["1 × 500"], id="failed once afterwards"
        ),
    ],
)
def test_a_single_round(spoilt: Round, missed: list[str]) -> None:
    """The machine may be slow in one of three; a refusal that is late in any is late, and a failure is a failure."""
    good = Round(HELD, BEYOND, HELD, HELD, HELD.p90_ms)
    wrong = missed_overload(OVERLOAD, Overloaded([HELD], HELD, [good, spoilt, good], []))
    assert len(wrong) == len(missed) and all(said in found for said, found in zip(missed, wrong, strict=True))


class Driven:
    """In place of a driver: a server that holds 1,000 a second with a p90 of 20 ms, and becomes quicker later."""

    def __init__(self, overload: Overload, target: Target, progress: Callable[[str], None]) -> None:
        self.samples: list[tuple[str, Sample]] = []
        self.said = progress
        self._drawn = 0

    def prepare(self, rate_per_s: float, seconds: float) -> str:
        self._drawn += 1
        return f"{self._drawn}: {rate_per_s:g}/s for {seconds:g} s"

    def drive(self, name: str, rate: float, seconds: float, asked: str | None = None) -> tuple[Phase, list[Sample]]:
        self.said(f"{name} {asked or ''}".strip())
        samples = [Sample("/", at, at, at + (0.5 if at < 102 else 0.004), 200) for at in np.arange(100, 100 + seconds, 0.25)]
        return step(rate, 26.0 if rate > 1000 else 7.0 if name == BEFORE else 20.0, min(rate, 1000.0)), samples


def test_rounds_of_an_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is drawn anew: three times the most, then nine tenths of it, of which the first two seconds do not count.

    Before all but the first the most is asked again, and p90s are measured by the most's own where that is longer.
    """
    monkeypatch.setattr(loadtest.overload, "Driver", Driven)
    said: list[str] = []
    found = run_overload(replace(OVERLOAD, load=replace(OVERLOAD.load, rate_per_s=1000.0), rounds=2), Target("a"), said.append)
    assert found.normal is not None and (found.normal.rate_per_s, found.normal.p90_ms) == (1000.0, 20.0)
    assert said[-5:] == [
        f"{BURST} 2: 3000/s for 30 s",
        f"{AFTER} 3: 900/s for 10 s",
        f"{BEFORE} 4: 1000/s for 10 s",
        f"{BURST} 5: 3000/s for 30 s",
        f"{AFTER} 6: 900/s for 10 s",
    ]
    first, second = found.rounds
    assert first.before is found.normal and second.before.p90_ms == 7.0
    assert first.p90_ms == second.p90_ms == 20.0 and second.slower == 1.3
    assert second.recovered.p90_ms == pytest.approx(4.0) and second.recovered.goodput_per_s == 4.0


@pytest.mark.parametrize(("seconds", "step_s"), [(60.0, 10.0), (5.0, 5.0), (1.0, 3.0)])
def test_a_short_one_has_time_to_recover(seconds: float, step_s: float) -> None:
    """What is asked afterwards is longer than what is not judged of it."""
    assert (short := shortened(OVERLOAD, seconds, None)).seconds == seconds and short.step_s == step_s > short.recovery_s
