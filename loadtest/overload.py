"""Three times what the server can take: finds its limit, goes beyond it, and comes back, several times in one run."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import uvloop

from loadtest.connections import Request, Sample
from loadtest.openloop import drive
from loadtest.pauses import Pause, paused_ms, watched
from loadtest.run import difference, requests
from loadtest.scenarios import EMBED, SEARCH, SPELLCHECK, WARM_UP_S, Scenario
from loadtest.server import Target, idle_s

RAMP, BEFORE, BURST, AFTER = "ramp", "before", "overload", "after"
GROWTH = 1.15  # from one step of the ramp to the next
HALVINGS = 2  # of the gap between the last rate held and the first missed
A_LITTLE_LESS = 0.96  # than a rate that is not held again
MOST_FAILED = 0.01  # share of requests at a rate that counts as held
REFUSED = 429


@dataclass(frozen=True, slots=True)
class Overload:
    """An overload and what must be true of it.

    Attributes:
        load: what is asked; its rate is where the ramp begins, its p90 the budget of the un-overloaded maximum.
        factor: of the un-overloaded maximum, during the burst.
        seconds: how long a burst is.
        rounds: how often there is one.
        step_s: how long each rate of the ramp, and those before and after a burst, are held.
        goodput: share of the un-overloaded maximum that must be answered during the burst, and is asked after it.
        slower: most p90 of the accepted during the burst and, once recovered, of all, as multiples of the un-overloaded p90.
        refusal_ms: in which every refusal must have been answered, the machine's own pauses aside.
        recovery_s: after the burst, from when on what is asked must be answered, as before it.
    """

    load: Scenario
    factor: float = 3.0
    seconds: float = 30.0
    rounds: int = 3
    step_s: float = 10.0
    goodput: float = 0.9
    slower: tuple[float, float] = (2.0, 1.5)
    refusal_ms: float = 5.0
    recovery_s: float = 2.0

    @property
    def name(self) -> str:
        return self.load.name

    @property
    def says(self) -> str:
        """The overload in words."""
        routes = ", ".join(f"/v1/{route}" for route, _ in self.load.routes)
        return (
            f"{routes}, {self.factor:g} × the most it answers with p90 ≤ {self.load.p90_ms:g} ms, "
            f"{self.rounds} × {self.seconds:g} s: goodput ≥ {100 * self.goodput:g} %, p90 ≤ {self.slower[0]:g} ×, "
            f"refusals under {self.refusal_ms:g} ms (the machine's own pauses aside), "
            f"{100 * self.goodput:g} % of the most all answered from {self.recovery_s:g} s after it on"
        )


@dataclass(frozen=True, slots=True)
class Phase:
    """One rate and what became of it.

    Attributes:
        goodput_per_s: answers with status 200 to requests due in a second.
        p90_ms: of those answers, from when they were due.
        refused: how many were refused.
        refusal_ms: p50, p99, p99.9 and maximum of the refusals, from when they were sent.
        slow_refusals: share of the refusals that took longer than they may.
        slow_anyway: the same without the time that the machine had a core for nobody (`pauses.py`).
        pauses_ms: how long it did, each time.
        failures: what became of requests neither answered nor refused, and how often.
        busy: processors kept busy, by process name, the generator among them.
        idle: cores that had nothing to do, or waited for disks.
    """

    name: str
    rate_per_s: float
    goodput_per_s: float
    p90_ms: float
    refused: int
    refusal_ms: tuple[float, ...]
    slow_refusals: float
    failures: dict[str, int]
    busy: dict[str, float]
    slow_anyway: float = 0.0
    pauses_ms: tuple[float, ...] = ()
    idle: float = 0.0

    def held(self, budget_ms: float) -> bool:
        return self.p90_ms <= budget_ms and self.goodput_per_s >= (1 - MOST_FAILED) * self.rate_per_s


@dataclass(frozen=True, slots=True)
class Round:
    """An overload, and what was just before and after it.

    After it a little less than the un-overloaded maximum is asked, the share of it that must be answered during the overload:
    at the maximum itself requests are refused because the machine is a few hundredths slower than it was when that was found.

    Attributes:
        before: the un-overloaded maximum, just before.
        burst, after: the overload, and what followed.
        recovered: `after` from `recovery_s` on.
        p90_ms: of the un-overloaded maximum, when that was found or just before, whichever is longer: where the machine has
            become quicker since, the same rate is a maximum no more, and its p90 a fraction of what it is there.
    """

    before: Phase
    burst: Phase
    after: Phase
    recovered: Phase
    p90_ms: float

    @property
    def goodput(self) -> float:
        """Of the overload, as a share of what was answered before."""
        return self.burst.goodput_per_s / self.before.goodput_per_s

    @property
    def slower(self) -> float:
        """p90 of the accepted, as a multiple of the un-overloaded."""
        return self.burst.p90_ms / self.p90_ms

    @property
    def slower_after(self) -> float:
        """p90 once recovered, as a multiple of the un-overloaded."""
        return self.recovered.p90_ms / self.p90_ms


@dataclass(frozen=True, slots=True)
class Overloaded:
    """What a run left.

    Attributes:
        ramp: the rates tried, in order.
        normal: the last of them, which is the un-overloaded maximum; None when no rate was held again.
        rounds: the overloads; none without a maximum.
        samples: every request with the name of its phase.
        way: how requests came, in words.
    """

    ramp: list[Phase]
    normal: Phase | None
    rounds: list[Round]
    samples: list[tuple[str, Sample]]
    way: str = "by TCP"


class Driver:
    """Drives one target with consecutive rates of one load."""

    def __init__(self, overload: Overload, target: Target, progress: Callable[[str], None]) -> None:
        self.overload = overload
        self.samples: list[tuple[str, Sample]] = []
        self._target = target
        self._progress = progress
        self._queries = overload.load.queries()

    def prepare(self, rate_per_s: float, seconds: float) -> list[Request]:
        """Requests drawn beforehand: drawing them would take processor time from the server that is measured."""
        log = list(itertools.islice(self._queries, round(rate_per_s * seconds)))
        return list(requests(self.overload.load, log))

    def drive(
        self, name: str, rate_per_s: float, seconds: float, asked: list[Request] | None = None
    ) -> tuple[Phase, list[Sample]]:
        asked = asked or self.prepare(rate_per_s, seconds)
        cpu_s, own_s = self._target.cpu_s(), time.process_time()
        with watched() as pauses:
            url, file, idle = self._target.url, self._target.socket, idle_s()
            samples = uvloop.run(drive(url, asked, rate_per_s=rate_per_s, duration_s=seconds, socket=file))
            idle = idle_s() - idle
        used = {**difference(self._target.cpu_s(), cpu_s), "generator": time.process_time() - own_s}
        busy = {process: round(share, 3) for process, s in sorted(used.items()) if (share := s / seconds) >= 0.01}
        self.samples += [(name, sample) for sample in samples]
        found = phase(name, rate_per_s, seconds, samples, busy, self.overload.refusal_ms, pauses)
        found = replace(found, idle=round(idle / seconds, 3))
        self._progress(f"{name} {rate_per_s:.0f}/s: {found.goodput_per_s:.0f}/s answered, p90 {found.p90_ms:.1f} ms")
        return found, samples


def phase(
    name: str,
    rate_per_s: float,
    seconds: float,
    samples: list[Sample],
    busy: dict[str, float],
    refusal_ms: float,
    pauses: Sequence[Pause] = (),
) -> Phase:
    """What became of the requests of one rate."""
    good = [sample.latency_ms for sample in samples if sample.status == 200]
    refused = [sample.service_ms for sample in samples if sample.status == REFUSED]
    slow = [sample for sample in samples if sample.status == REFUSED and sample.service_ms >= refusal_ms]
    anyway = [one for one in slow if one.service_ms - paused_ms(pauses, one.sent, one.done) >= refusal_ms]
    return Phase(
        name=name,
        rate_per_s=rate_per_s,
        goodput_per_s=len(good) / seconds,
        p90_ms=float(np.percentile(good, 90)) if good else float("inf"),
        refused=len(refused),
        refusal_ms=tuple(float(value) for value in np.percentile(refused, (50, 99, 99.9, 100))) if refused else (),
        slow_refusals=len(slow) / len(refused) if refused else 0.0,
        slow_anyway=len(anyway) / len(refused) if refused else 0.0,
        pauses_ms=tuple(round(pause.ms, 3) for pause in pauses),
        failures=dict(Counter(sample.error or str(sample.status) for sample in samples if sample.status not in (200, REFUSED))),
        busy=busy,
    )


def run_overload(overload: Overload, target: Target, progress: Callable[[str], None] = lambda line: None) -> Overloaded:
    """Find the un-overloaded maximum of `target`; then overload it, and ask nearly as much as that again, in turn."""
    driver = Driver(overload, target, progress)
    driver.drive("warm-up", overload.load.rate_per_s, WARM_UP_S)
    driver.samples.clear()
    ramp: list[Phase] = []
    normal = sustained(overload, ramp, lambda rate: driver.drive(RAMP, rate, overload.step_s)[0])
    rounds: list[Round] = []
    if normal is not None:
        rate = normal.rate_per_s
        high, low = overload.factor * rate, overload.goodput * rate
        parts = ((BEFORE, rate, overload.step_s), (BURST, high, overload.seconds), (AFTER, low, overload.step_s))
        asked = [[driver.prepare(per_s, seconds) for _, per_s, seconds in parts] for _ in range(overload.rounds)]
        for number, (again, beyond, nearly) in enumerate(asked):
            before = driver.drive(*parts[0], again)[0] if number else normal  # it was held a moment ago
            burst, _ = driver.drive(*parts[1], beyond)
            after, samples = driver.drive(*parts[2], nearly)
            longer = max(normal.p90_ms, before.p90_ms)
            rounds.append(Round(before, burst, after, recovered(overload, after, samples), longer))
    return Overloaded(ramp, normal, rounds, driver.samples, target.way)


def recovered(overload: Overload, after: Phase, samples: Sequence[Sample]) -> Phase:
    """The part of `after` from `recovery_s` on."""
    began = min(sample.due for sample in samples)
    late = [sample for sample in samples if sample.due - began >= overload.recovery_s]
    return phase(AFTER, after.rate_per_s, overload.step_s - overload.recovery_s, late, {}, overload.refusal_ms)


def sustained(overload: Overload, ramp: list[Phase], drive: Callable[[float], Phase]) -> Phase | None:
    """The un-overloaded maximum: the highest rate of the ramp that was held, or a little less, held again; None when none is.

    Again, because the most of some twenty tries is a lucky one where a machine's speed varies, and three times it, and the same
    rate after it, would be judged by that luck.

    Args:
        ramp: gets each rate tried, in order.
    """
    for rate in rates(overload, ramp):
        ramp.append(drive(rate))
    rate = max((step.rate_per_s for step in ramp if step.held(overload.load.p90_ms)), default=0.0)
    while rate >= overload.load.rate_per_s:
        ramp.append(drive(rate))
        if ramp[-1].held(overload.load.p90_ms):
            return ramp[-1]
        rate *= A_LITTLE_LESS
    return None


def rates(overload: Overload, ramp: list[Phase]) -> Iterator[float]:
    """Rates to try next, by what became of those before: up until one is missed twice, then halving the gap.

    Twice, because a single stall of half a second is no limit, and an overload of three times too little shows nothing.
    """
    rate = overload.load.rate_per_s
    while True:
        yield rate
        if not ramp[-1].held(overload.load.p90_ms):
            yield rate
        if not ramp[-1].held(overload.load.p90_ms):
            break
        rate *= GROWTH
    held, missed = rate / GROWTH, rate
    if held < overload.load.rate_per_s:  # not even the first
        return
    for _ in range(HALVINGS):
        middle = (held + missed) / 2
        yield middle
        held, missed = (middle, missed) if ramp[-1].held(overload.load.p90_ms) else (held, middle)


def missed_overload(overload: Overload, found: Overloaded) -> list[str]:
    """What the run did not hold; empty when it held everything.

    What is compared with the un-overloaded rate just before is judged by the round in the middle: a machine whose speed varies
    by a tenth within a minute says as much of itself as of the server in any single one. Refusals and failures count in all.
    """
    rounds = found.rounds
    if not rounds:
        least = f"{overload.load.rate_per_s:g}/s already"
        return [f"p90 over {overload.load.p90_ms:g} ms or failures at {least}, or no rate was held again"]
    wrong = []
    if (goodput := median(one.goodput for one in rounds)) < overload.goodput:
        wrong.append(f"goodput {100 * goodput:.0f} % of the un-overloaded")
    if (slower := median(one.slower for one in rounds)) > overload.slower[0]:
        wrong.append(f"p90 of the accepted {slower:.1f} × the un-overloaded")
    bursts = [one.burst for one in rounds]
    if any(burst.slow_anyway for burst in bursts):
        late, refusals = sum(round(one.slow_anyway * one.refused) for one in bursts), sum(one.refused for one in bursts)
        slow = f"{late:,} of {refusals:,} refusals ({100 * late / refusals:.4f} %) took {overload.refusal_ms:g} ms or more"
        p99, most = (max(burst.refusal_ms[at] for burst in bursts if burst.refusal_ms) for at in (1, 3))
        wrong.append(f"{slow} (p99 {p99:.1f}, most {most:.1f})")
    failures = sum((Counter(part.failures) for one in rounds for part in (one.before, one.burst, one.after)), Counter[str]())
    if failures:
        wrong.append("neither answered nor refused: " + ", ".join(f"{count} × {kind}" for kind, count in failures.items()))
    if (slower := median(one.slower_after for one in rounds)) > overload.slower[1]:
        wrong.append(f"p90 {slower:.1f} × as long {overload.recovery_s:g} s after the overload")
    refused = median(one.recovered.refused for one in rounds)
    if refused > MOST_FAILED * rounds[0].recovered.rate_per_s * (overload.step_s - overload.recovery_s):
        wrong.append(f"{refused:.0f} refused from {overload.recovery_s:g} s after the overload on")
    return wrong


def shortened(overload: Overload, seconds: float | None, rate_per_s: float | None) -> Overload:
    """The same with a burst of other length, or a ramp from another rate."""
    load = replace(overload.load, rate_per_s=rate_per_s or overload.load.rate_per_s)
    if seconds is None:
        return replace(overload, load=load)
    step_s = min(overload.step_s, max(seconds, overload.recovery_s + 1))  # of which something is left to judge recovery by
    return replace(overload, load=load, seconds=seconds, step_s=step_s)


OVERLOADS = {
    overload.name: overload
    for overload in (
        Overload(Scenario("overload", ((EMBED, 1.0),), 500, 25, "distinct")),
        Overload(Scenario("overload-mixed", ((SEARCH, 0.6), (SPELLCHECK, 0.2), (EMBED, 0.2)), 300, 50, "zipf")),
    )
}
