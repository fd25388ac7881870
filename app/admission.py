"""Admission: what is more than useful is refused at once, and interactive requests go before bulk.

A partitioned limiter after Netflix's concurrency-limits (`AbstractPartitionedLimiter`): shares of the limit are guaranteed, not
exclusive. While there is room anybody is admitted; without room a class is admitted as long as it holds less than its share.
"""

from __future__ import annotations

from typing import Literal

from app.adaptive_limit import AdaptiveLimit

Class = Literal["interactive", "bulk"]
INTERACTIVE: Class = "interactive"
BULK: Class = "bulk"
SHARES: dict[Class, float] = {INTERACTIVE: 0.8, BULK: 0.2}
# Whatever is not here is never refused: health, metrics, the page, and the operator's changes to the catalogue.
OF_PATH: dict[str, Class] = {
    "/v1/search": INTERACTIVE,
    "/v1/suggest": INTERACTIVE,
    "/v1/spellcheck": INTERACTIVE,
    "/v1/embed": BULK,
    "/v1/embeddings": BULK,
}


class Admission:
    """Who is in flight, by class.

    Attributes:
        limit: the limit on all of them together.
        in_flight: requests being answered.
        coming: requests that were told there is room, and have not come to take it.
        refused: requests turned away since the start.
    """

    def __init__(self, limit: AdaptiveLimit) -> None:
        self.limit = limit
        self.in_flight: dict[Class, int] = {INTERACTIVE: 0, BULK: 0}
        self.coming: dict[Class, int] = {INTERACTIVE: 0, BULK: 0}
        self.refused: dict[Class, int] = {INTERACTIVE: 0, BULK: 0}

    def enter(self, which: Class, *, let_in: bool = False) -> bool:
        """Whether a request of this class may start; one that did must `leave`. Who was let in before may."""
        if not let_in and self.full(which):
            self.refuse(which)
            return False
        self.in_flight[which] += 1
        self.limit.seen(self.in_flight[INTERACTIVE] + self.in_flight[BULK])
        return True

    def full(self, which: Class) -> bool:
        """Whether a request of this class would be refused now."""
        limit, coming, in_flight = self.limit.limit, self.coming, self.in_flight
        if in_flight[INTERACTIVE] + in_flight[BULK] + coming[INTERACTIVE] + coming[BULK] < limit:
            return False
        return in_flight[which] + coming[which] >= max(1, int(SHARES[which] * limit))

    def refuse(self, which: Class) -> None:
        """Count a request that is turned away."""
        self.refused[which] += 1
        self.limit.refused()

    def leave(self, which: Class) -> None:
        self.in_flight[which] -= 1
