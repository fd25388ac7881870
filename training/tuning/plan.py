"""What a run measures."""

from __future__ import annotations

from dataclasses import dataclass

from training.tuning.choose import Candidate
from training.tuning.settings import NAIVE, Setting

NAIVE_NAME = "naive"
EMBEDDER, SPELLER = "embedder", "speller"  # each in one process (docs/adr/0028-one-process.md)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Settings of one model.

    Attributes:
        target: the model.
        candidates: the naive one first, then simple ones before others.
        concurrencies: requests in flight, in the search.
        compared_at: the same in the rounds against the naive one.
        rounds: how often the chosen and the naive one are measured in turn; 0 for one search alone.
    """

    target: str
    candidates: tuple[Candidate, ...]
    concurrencies: tuple[int, ...]
    compared_at: tuple[int, ...]
    rounds: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        queries: how many different ones the traffic has.
        requests: answers in each of a measurement's three windows, of at least a second each.
        sweeps: measured with perf_analyzer alone.
        profiles: measured with Model Analyzer; names in triton/analyzer.
        length_s: Model Analyzer is stopped when the whole run has taken this long.
    """

    queries: int
    requests: int
    sweeps: tuple[Sweep, ...]
    profiles: tuple[str, ...]
    length_s: float

    @property
    def measurements(self) -> int:
        """How many measurements the sweeps make."""
        return sum(
            len(sweep.candidates) * len(sweep.concurrencies) + 2 * sweep.rounds * len(sweep.compared_at)
            for sweep in self.sweeps
        )


def candidates(model: str) -> tuple[Candidate, ...]:
    """Instances; the models have no batcher (docs/adr/0018-no-batcher.md)."""
    more = [Candidate(name, {model: Setting(count, batching=False)}) for name, count in (("two", 2), ("three", 3))]
    return (Candidate(NAIVE_NAME, {model: NAIVE}), *more)


def full() -> Plan:
    """Twelve minutes at most on two idle cores."""
    embedder = Sweep(EMBEDDER, candidates(EMBEDDER), (8, 16, 32), (2, 4, 8, 16, 32), 2)
    speller = Sweep(SPELLER, candidates(SPELLER), (2, 4, 8, 16), (1, 2, 4, 8, 16), 1)
    return Plan(512, 200, (embedder, speller), ("embedder", "speller"), 690.0)


def quick() -> Plan:
    """A minute, to see that all parts work; its figures decide nothing."""
    embedder = Sweep(EMBEDDER, candidates(EMBEDDER)[:2], (8,), (8,), 1)
    speller = Sweep(SPELLER, candidates(SPELLER)[:2], (2,), (2,), 0)
    return Plan(64, 10, (embedder, speller), ("quick",), 240.0)
