"""The loads that Searchbar states it holds, and what must be true of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from loadtest.traffic import Query, distinct, names, zipf

SEED = 20_261_124


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load.

    Attributes:
        routes: paths under /v1/ and the share of requests each gets.
        rate_per_s: requests due in a second.
        p90_ms: what nine of ten requests must not exceed, from when they were due.
        traffic: ``distinct`` (no query twice; the server keeps no answers) or ``zipf`` (as typed by many listeners).
        seconds: how long, the warm-up of `WARM_UP_S` before it not counted.
    """

    name: str
    routes: tuple[tuple[str, float], ...]
    rate_per_s: float
    p90_ms: float
    traffic: Literal["distinct", "zipf"]
    seconds: float = 60.0

    @property
    def says(self) -> str:
        """The load in words."""
        routes = ", ".join(f"/v1/{route}" for route, _ in self.routes)
        sort = "no query twice" if self.traffic == "distinct" else "Zipf traffic"
        return f"{routes}, {sort}, {self.rate_per_s:g}/s for {self.seconds:g} s, p90 ≤ {self.p90_ms:g} ms, no failure"

    def environment(self) -> dict[str, str]:
        """Settings of the server that it is meant for."""
        return {"SEARCHBAR_CACHE_ENTRIES": "0"} if self.traffic == "distinct" else {}

    def queries(self, seed: int = SEED) -> Iterator[Query]:
        """Without end, the same for the same seed."""
        return (distinct if self.traffic == "distinct" else zipf)(names(), seed)


WARM_UP_S = 5.0
SEARCH, SPELLCHECK, EMBED = "search", "spellcheck", "embed"
STATED = {
    scenario.name: scenario
    for scenario in (
        Scenario("embed-distinct", ((EMBED, 1.0),), 850, 25, "distinct"),
        Scenario("spellcheck-distinct", ((SPELLCHECK, 1.0),), 400, 25, "distinct"),
        Scenario("spellcheck-zipf", ((SPELLCHECK, 1.0),), 850, 25, "zipf"),
        Scenario("search-zipf", ((SEARCH, 1.0),), 850, 50, "zipf"),
        Scenario("mixed-zipf", ((SEARCH, 0.6), (SPELLCHECK, 0.2), (EMBED, 0.2)), 850, 50, "zipf"),
    )
}
