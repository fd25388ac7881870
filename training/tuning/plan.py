"""What a run measures."""

from __future__ import annotations

from dataclasses import dataclass

from training.tuning.choose import Candidate
from training.tuning.settings import NAIVE, Setting

NAIVE_NAME = "naive"
EMBEDDER = ("embedder_tokenize", "embedder_encoder")
SPELLER = ("speller_generate",)  # with its engines inside (docs/adr/0026-engines-inside.md)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Settings of the models behind one top-level model.

    Attributes:
        target: the model that is asked.
        models: what is loaded for it, in this order.
        candidates: the naive one first, then simple ones before others.
        concurrencies: requests in flight, in the search.
        compared_at: the same in the rounds against the naive one.
        rounds: how often the chosen and the naive one are measured in turn; 0 for one search alone.
    """

    target: str
    models: tuple[str, ...]
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


def embedder_candidates() -> tuple[Candidate, ...]:
    """Encoder instances × delay and preferred batch; the tokenizer, ten times as fast, gets a second instance once.

    It has no batcher (docs/adr/0018-no-batcher.md).
    """
    naive = Candidate(NAIVE_NAME, dict.fromkeys(EMBEDDER, NAIVE))
    plain = [Setting(count, True, sizes, delay) for count in (1, 2) for sizes, delay in (((), 0), ((), 500), ((16,), 1000))]
    one = [Candidate(f"encoder: {s}", {"embedder_tokenize": NAIVE, "embedder_encoder": s}) for s in plain]
    two = Candidate("two of each", {"embedder_tokenize": Setting(2, batching=False), "embedder_encoder": Setting(2)})
    return (naive, *one, two)


def speller_candidates() -> tuple[Candidate, ...]:
    """Instances of the generator; it has no batcher (docs/adr/0018-no-batcher.md)."""
    naive = Candidate(NAIVE_NAME, dict.fromkeys(SPELLER, NAIVE))
    more = [Candidate(name, {"speller_generate": Setting(count, batching=False)}) for name, count in (("two", 2), ("three", 3))]
    return (naive, *more)


def full() -> Plan:
    """Twelve minutes at most on two idle cores."""
    embedder = Sweep("embedder", (*EMBEDDER, "embedder"), embedder_candidates(), (8, 16, 32), (2, 4, 8, 16, 32), 2)
    speller = Sweep("speller_generate", SPELLER, speller_candidates(), (2, 4, 8, 16), (1, 2, 4, 8, 16), 1)
    return Plan(512, 200, (embedder, speller), ("embedder", "speller"), 690.0)


def quick() -> Plan:
    """A minute, to see that all parts work; its figures decide nothing."""
    few = embedder_candidates()
    embedder = Sweep("embedder", (*EMBEDDER, "embedder"), (few[0], few[1]), (8,), (8,), 1)
    speller = Sweep("speller_generate", SPELLER, speller_candidates()[:2], (2,), (2,), 0)
    return Plan(64, 10, (embedder, speller), ("quick",), 240.0)
