"""The highest rate that a server holds, found in few trials."""

from __future__ import annotations

import math
from collections.abc import Generator


def climb(start: float, *, close: float = 0.05, trials: int = 7) -> Generator[float, bool, float]:
    """Yields rates to try, in requests a second, and is sent whether each was held; returns the highest that was, or 0.0.

    Goes up or down from `start` by a quarter until the limit lies between two rates, then halves what is between them.

    Args:
        close: ends when the lowest rate missed is within this share of the highest held.
        trials: ends after so many.
    """
    low, high, rate = 0.0, math.inf, start
    for _ in range(trials):
        if (yield rate):
            low = rate
        else:
            high = rate
        if high <= low * (1 + close):
            break
        if not low:
            rate = high * 0.75
        elif math.isinf(high):
            rate = low * 1.25
        else:
            rate = math.sqrt(low * high)
    return low
