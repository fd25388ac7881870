"""Python's cycle collector, kept away from requests.

By itself it looks at young objects for every 700 that come to be more than go, and now and then at all of them: with full
caches that stopped every request for 70 to 220 ms, every two seconds or so (docs/performance.md). Nearly everything here goes
by reference counting; what is left in cycles, some dozens of objects a second, can wait for a moment without requests.
"""

from __future__ import annotations

import gc

YOUNG = 5_000  # objects that may come to be before the young are looked at; 20,000 took 8 ms
NEVER = 1_000_000  # collections of the young before the collector would look at older ones by itself
EVERY_S = 60.0  # between looks at everything new, at a moment when nothing is under way …
PATIENCE = 10  # … and after so many times as long at any moment


class Garbage:
    """Collects when it is told the time; what has survived is not looked at again.

    Args:
        now: seconds that never go back.
    """

    def __init__(self, now: float) -> None:
        """Takes over from Python's own schedule, in all of this process."""
        self._looked = now
        self._collect()
        gc.set_threshold(YOUNG, NEVER, NEVER)

    def tick(self, now: float, idle: bool) -> None:
        """Called every now and then; `idle`: no request is under way."""
        since = now - self._looked
        if since >= EVERY_S and (idle or since >= PATIENCE * EVERY_S):
            self._looked = now
            self._collect()

    def _collect(self) -> None:
        gc.collect()
        gc.freeze()  # the lexicon's millions of objects and the caches' stay
