"""How much work in flight is useful: a limit that follows the latency of the models and of the event loop.

By gradient, after Netflix's concurrency-limits (`Gradient2Limit`, https://github.com/Netflix/concurrency-limits; "Performance
Under Load", 2018), with the floor of Envoy's adaptive-concurrency filter (its minRTT) in place of Netflix's long-term average,
which a long overload pulls up until nothing is refused:

    allowed  = max(tolerance × floor, what is quick enough for anybody)
    gradient = clamp(allowed / latency, 0.5, 1)     of the model for which it is least; or turn allowed / turn seen
    limit    = (1 - s) × limit + s × (gradient × limit + √limit)

once a window in which half of the limit or more was in flight, or somebody was refused. Else the limit goes to where it rests:
nobody knows what more would do, but a pause of some tens of milliseconds brings that many at once, who are served in no time.
For the same reason it does not fall in a window in which the server came to rest: a crowd after which there is nobody is no
overload.

Netflix's and Envoy's tolerances (1.5, 1.25) fit servers that take requests singly. Here requests that wait leave together
(`coalesce.py`), so that latency grows long before throughput ends, and the limit must let it: a server whose batch of n takes
a + b·n gives at least 1 - 1/t of all it ever could when a batch takes t times what a single request does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf, sqrt

TOLERANCE = 6.0  # docs/adr/0019-admission.md has the measurements
ENOUGH_S = 0.015  # of latency, mean, is let be, however quick a model is alone: p90 is to be 25 ms
TURN_S = 0.002  # of the event loop, mean: what comes meanwhile waits as long even to be refused
SMOOTHING = 0.2
WINDOW_S, WINDOW_SAMPLES = 0.1, 10
REST_GROWTH = 1.1  # of the limit on its way to where it rests, a window
FLOOR_S = 300.0  # a floor is forgotten after once to twice this


class Floor:
    """The least of what was seen in the last `FLOOR_S` to 2 × `FLOOR_S` seconds; infinite before anything was."""

    def __init__(self) -> None:
        self.present = self._earlier = inf
        self._since = -inf

    def see(self, value: float, now: float) -> None:
        if now - self._since >= FLOOR_S:
            self._earlier, self.present, self._since = self.present, inf, now
        self.present = min(self.present, value)

    @property
    def value(self) -> float:
        return min(self.present, self._earlier)


class Part:
    """One source of latency: the samples of the window under way, and the floor."""

    def __init__(self) -> None:
        self.floor = Floor()
        self.count = 0
        self.total = 0.0

    def mean(self) -> float:
        return self.total / self.count

    def clear(self) -> None:
        self.count, self.total = 0, 0.0


class AdaptiveLimit:
    """A limit on requests in flight between `least` and `most`.

    Args:
        rest: the limit while little is in flight, and before anything was measured; `least` when not given.
        clock: seconds that never go back.

    Attributes:
        limit: requests that may be in flight now.
    """

    def __init__(self, least: int, most: int, *, rest: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._least, self._most = float(least), float(most)
        self._exact = self._rest = min(max(float(rest), self._least), self._most)
        self._clock = clock
        self._parts: dict[str, Part] = {}
        self._turns = Part()
        self._busiest = 0
        self._refused = self._rested = False
        self._opened = clock()
        self.limit = int(self._exact)

    def seen(self, in_flight: int) -> None:
        """So many requests are in flight, one just admitted included."""
        if in_flight > self._busiest:
            self._busiest = in_flight
        if in_flight == 1:  # the server had come to rest
            self._rested = True

    def refused(self) -> None:
        """A request was turned away: what is measured meanwhile holds queueing of our own making."""
        self._refused = True

    def observe(self, part: str, seconds: float) -> None:
        """`part` took so long for one answer, its queue included. Failures are not to be told: they may be quick."""
        found = self._parts.get(part)
        if found is None:
            found = self._parts[part] = Part()
        found.count += 1
        found.total += seconds
        if found.count >= WINDOW_SAMPLES and (now := self._clock()) - self._opened >= WINDOW_S:
            self._close(now)

    def turned(self, seconds: float, admitted: int) -> None:
        """The event loop came round this long after the first of so many was admitted, or one waited so long for its turn."""
        self._turns.count += admitted
        self._turns.total += seconds * admitted
        if self._turns.count >= WINDOW_SAMPLES and (now := self._clock()) - self._opened >= WINDOW_S:
            self._close(now)

    def _close(self, now: float) -> None:
        """End the window: floors, gradient, limit."""
        gradient = 1.0
        for part in self._parts.values():
            if part.count < WINDOW_SAMPLES:
                continue  # goes on in the next
            latency = part.mean()
            if not self._refused or latency < part.floor.value or self.limit == self._least:
                part.floor.see(latency, now)
            gradient = min(gradient, max(TOLERANCE * part.floor.value, ENOUGH_S) / latency)
            part.clear()
        if self._turns.count >= WINDOW_SAMPLES:
            gradient = min(gradient, TURN_S / max(self._turns.mean(), TURN_S))
            self._turns.clear()
        if self._rested:
            gradient = 1.0  # many came at the same moment, and all were served
        if self._busiest >= self._exact / 2 or self._refused:
            target = max(gradient, 0.5) * self._exact + sqrt(self._exact)
            self._exact += SMOOTHING * (target - self._exact)
            self._exact = min(max(self._exact, self._least), self._most)
        elif self._exact < self._rest:
            self._exact = min(self._exact * REST_GROWTH, self._rest)
        self.limit = int(self._exact)
        self._busiest, self._refused, self._rested, self._opened = 0, False, False, now
