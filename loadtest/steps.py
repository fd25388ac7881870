"""The highest rate that a server holds, found in few trials."""

from __future__ import annotations

import math
from collections.abc import Callable


def highest(held: Callable[[float], bool], start: float, *, close: float = 0.05, trials: int = 7) -> float:
    """The highest rate that was held; 0.0 when none was.

    Goes up or down from `start` by a quarter until the limit lies between two rates, then halves what is between them.

    Args:
        held: tries one rate, in requests a second.
        close: ends when the lowest rate missed is within this share of the highest held.
        trials: ends after so many.
    """
    low, high, rate = 0.0, math.inf, start
    for _ in range(trials):
        if held(rate):
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
