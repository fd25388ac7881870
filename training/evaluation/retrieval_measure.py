"""Ask every way of searching every query, one at a time in one process, and keep what came back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.domain import Item
from training.evaluation.cases import Case
from training.evaluation.retrieval_sets import QuerySet

DEPTH = 10  # hits looked at
MIB = 2**20

Find = Callable[[str], Awaitable[Sequence[str]]]
"""A query → ids of the items found, best first, at most `DEPTH` of them."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of searching a catalogue.

    Attributes:
        name: its row in the tables.
        find: asks it.
        disk_mib: what its index takes on disk.
        memory_mib: by how much a process grows that opens it and asks it some queries (`retrieval_memory.py`).
        ours: whether it is no baseline.
    """

    name: str
    find: Find
    disk_mib: float
    memory_mib: float
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found for a case, ids best first, in `ms` milliseconds."""

    case: Case
    found: tuple[str, ...]
    ms: float

    @property
    def rank(self) -> int | None:
        """Place of the first right item, from 1; None when it is not among the first `DEPTH`."""
        return next((place for place, item in enumerate(self.found, 1) if item in self.case.right), None)


@dataclass(slots=True)
class Compared:
    """Every way on one catalogue: `answers[way][set]`, both by name; `completions_ms` are p50, p90 and p99 of a completion."""

    catalogue: str
    items: list[Item]
    sets: list[QuerySet]
    ways: list[Way] = field(default_factory=list)
    answers: dict[str, dict[str, list[Answer]]] = field(default_factory=dict)
    completions_ms: tuple[float, float, float] = (float("nan"),) * 3


def recall(answers: Sequence[Answer], depth: int = DEPTH) -> float:
    """Share of cases with a right item among the first `depth`."""
    return statistics.fmean(a.rank is not None and a.rank <= depth for a in answers) if answers else float("nan")


def reciprocal_rank(answers: Sequence[Answer]) -> float:
    """Mean of 1/place of the first right item, 0 where none is among the first `DEPTH`."""
    return statistics.fmean(1 / a.rank if a.rank else 0.0 for a in answers) if answers else float("nan")


def precision(answers: Sequence[Answer]) -> float:
    """Mean share of right items in the first `DEPTH`; a place left empty is wrong."""
    return statistics.fmean(sum(i in a.case.right for i in a.found) / DEPTH for a in answers) if answers else float("nan")


def latency(answers: Sequence[Answer]) -> tuple[float, float]:
    """(p50, p90) milliseconds a query."""
    deciles = statistics.quantiles([a.ms for a in answers], n=10, method="inclusive")
    return deciles[4], deciles[8]


async def ask(way: Way, queries: QuerySet, advance: Callable[[], None]) -> list[Answer]:
    """The answers to one set, in its order; `advance` is called after each."""
    answers = []
    for case in queries.cases:
        started = time.perf_counter()
        found = await way.find(case.typed)
        answers.append(Answer(case, tuple(found[:DEPTH]), (time.perf_counter() - started) * 1000))
        advance()
    return answers


def disk_mib(path: Path) -> float:
    """What a file or the files below a directory take, in MiB: blocks, for engines set files aside that they do not fill."""
    files = [path] if path.is_file() else [p for p in path.resolve().rglob("*") if p.is_file()]
    return sum(file.stat().st_blocks for file in files) * 512 / MIB
