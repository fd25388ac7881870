"""Python's cycle collector, kept away from requests.

By itself it looks at young objects for every 700 that come to be more than go, and now and then at all of them: with full
caches that stopped every request for 70 to 220 ms, every two seconds or so (docs/performance-log.md). A look at the young alone
takes as long as there are requests under way: with a hundred searches 4 to 12 ms, and it finds nothing. Nearly everything here
goes by reference counting; so what is new is looked at when nothing is under way, and under a load that leaves no such moment
it is put with what is not looked at any more (`gc.freeze`, which takes a microsecond), as long as looks find next to nothing.
Under such a load they are looks at what came since the last tick alone: one at all of 20 seconds made refusals wait
for 12 to 24 ms (docs/adr/0019-admission.md).
"""

from __future__ import annotations

import gc

CROWD = 5_000  # objects more than after the last look that are new: a look at them would take 2 ms without requests
NEXT_TO_NOTHING = 200  # objects in cycles that one look finds; where it finds more, nothing is put aside unseen
A_FEW = 10  # the same of a look at what came since the last tick
NEW_EVERY_S = 2.0  # between looks at what is new, at a moment when nothing is under way …
ALL_EVERY_S = 600.0  # … and at all that has come since the last such look, but for what was put aside …
PATIENCE = 10  # … each after so many times as long at any moment


class Garbage:
    """Collects when it is told the time, and never else.

    What is new is looked at often, and before it is so much that the look takes long; all of it now and then; what has outlived
    that, or was too much at a time, is left alone.

    Args:
        now: seconds that never go back.
    """

    def __init__(self, now: float) -> None:
        """Takes over from Python's own schedule, in all of this process."""
        self._looked_at_new = self._looked_at_all = now
        self._tidy = True
        self._sampling = False  # all but what comes until the next tick has been put aside
        gc.disable()
        self._collect_all()

    def tick(self, now: float, idle: bool) -> None:
        """Called every now and then; `idle`: no request is under way."""
        crowd = gc.get_count()[0] >= CROWD
        if due(now - self._looked_at_all, ALL_EVERY_S, idle):
            self._looked_at_new = self._looked_at_all = now
            self._sampling = False
            self._collect_all()
        elif self._sampling:
            self._look_at_new(now, A_FEW)
        elif due(now - self._looked_at_new, NEW_EVERY_S, idle) or (crowd and not self._tidy):
            if idle or not self._tidy:
                self._look_at_new(now, NEXT_TO_NOTHING)
            else:
                gc.freeze()
                self._sampling = True
        elif crowd:
            gc.freeze()

    def _look_at_new(self, now: float, few: int) -> None:
        self._looked_at_new, self._sampling = now, False
        self._tidy = gc.collect(1) <= few

    def _collect_all(self) -> None:
        gc.collect()
        gc.freeze()  # the lexicon's millions of objects and the caches' stay


def due(since: float, every_s: float, idle: bool) -> bool:
    """Whether it is time, by the seconds since the last time."""
    return since >= every_s and (idle or since >= PATIENCE * every_s)
