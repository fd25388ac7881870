"""Python's cycle collector, kept away from requests.

By itself it looks at young objects for every 700 that come to be more than go, and now and then at all of them: with full
caches that stopped every request for 70 to 220 ms, every two seconds or so (docs/performance.md). Nearly everything here goes
by reference counting; what is left in cycles, some dozens of objects a second, can wait for a moment without requests.
"""

from __future__ import annotations

import gc

YOUNG = 5_000  # objects that may come to be before the youngest are looked at; 20,000 took 8 ms
NEVER = 1_000_000  # collections of the youngest before the collector would look at older ones by itself
CROWD = 4  # collections of the youngest after which what is new is looked at whoever waits: some 20,000 objects, 8 ms
NEW_EVERY_S = 2.0  # between looks at what is new, at a moment when nothing is under way …
ALL_EVERY_S = 600.0  # … and at all that has come since the last such look …
PATIENCE = 10  # … each after so many times as long at any moment


class Garbage:
    """Collects when it is told the time.

    What is new is looked at often, and before it is so much that the look takes long; all of it now and then; what has outlived
    that is left alone.

    Args:
        now: seconds that never go back.
    """

    def __init__(self, now: float) -> None:
        """Takes over from Python's own schedule, in all of this process."""
        self._looked_at_new = self._looked_at_all = now
        self._collect_all()
        gc.set_threshold(YOUNG, NEVER, NEVER)

    def tick(self, now: float, idle: bool) -> None:
        """Called every now and then; `idle`: no request is under way."""
        if due(now - self._looked_at_all, ALL_EVERY_S, idle):
            self._looked_at_new = self._looked_at_all = now
            self._collect_all()
        elif gc.get_count()[1] >= CROWD or due(now - self._looked_at_new, NEW_EVERY_S, idle):
            self._looked_at_new = now
            gc.collect(1)

    def _collect_all(self) -> None:
        gc.collect()
        gc.freeze()  # the lexicon's millions of objects and the caches' stay


def due(since: float, every_s: float, idle: bool) -> bool:
    """Whether it is time, by the seconds since the last time."""
    return since >= every_s and (idle or since >= PATIENCE * every_s)
