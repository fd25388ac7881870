"""How often a caller may ask: a token bucket."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """`rate_per_s` requests a second in the long run and up to `burst` at once.

    It starts full. Nothing runs in the background: what has flowed in since the last look is worked out at the next one.

    Args:
        rate_per_s: tokens that flow in each second, more than 0.
        burst: tokens that it holds, at least 1.
        clock: seconds from any origin, never backwards.
    """

    __slots__ = ("_at", "_burst", "_clock", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._at = clock()

    def take(self) -> float:
        """Takes one token. 0.0 when there was one; else nothing is taken, and it is the seconds until there will be one."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate_per_s)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate_per_s
