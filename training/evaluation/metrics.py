"""What the tables count, over outcomes of one method on one or several query sets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.text import same_reading
from training.evaluation.cases import Case


@dataclass(frozen=True, slots=True)
class Reply:
    """What one method makes of a query, folded.

    Attributes:
        text: the reading that would be searched.
        others: readings offered beside it, best first.
        confidence: the method's probability that `text` is what was meant, where it states one.
        proposal: the best reading other than the query and its probability, acted on or not; None without one.
    """

    text: str
    others: tuple[str, ...] = ()
    confidence: float | None = None
    proposal: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case and a method's reply to it, in `ms` milliseconds."""

    case: Case
    reply: Reply
    ms: float


def exact(outcomes: Iterable[Outcome]) -> float:
    """Share of cases whose reply is the right reading letter for letter (folded)."""
    return _share(o.reply.text == o.case.meant for o in outcomes)


def broken(outcomes: Iterable[Outcome]) -> float:
    """Share of correct queries that a listener would see changed: more than spacing and diacritics."""
    return _share(not same_reading(o.reply.text, o.case.typed) for o in outcomes)


def among(outcomes: Iterable[Outcome]) -> float:
    """Share of cases whose right reading is the reply or one of the readings offered beside it."""
    return _share(o.case.meant in (o.reply.text, *o.reply.others) for o in outcomes)


def reciprocal_rank(outcomes: Iterable[Outcome]) -> float:
    """Mean of 1/position of the right reading among reply and other readings; 0 where it is not there."""
    found = []
    for o in outcomes:
        readings = list(dict.fromkeys((o.reply.text, *o.reply.others)))
        found.append(1 / (readings.index(o.case.meant) + 1) if o.case.meant in readings else 0.0)
    return sum(found) / len(found) if found else float("nan")


def latency(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """(median, mean) milliseconds a query."""
    times = [o.ms for o in outcomes]
    return (statistics.median(times), statistics.fmean(times)) if times else (float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Bin:
    """Queries whose confidence falls into one of equal parts of 0–1."""

    confidence: float  # mean
    accuracy: float
    count: int


def reliability(judged: Iterable[tuple[float, bool]], bins: int = 10) -> list[Bin]:
    """Bins that are not empty, of (confidence, was right), lowest first. A confidence of 1 belongs to the last."""
    found: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, right in judged:
        found[min(int(confidence * bins), bins - 1)].append((confidence, right))
    return [Bin(statistics.fmean(c for c, _ in b), sum(r for _, r in b) / len(b), len(b)) for b in found if b]


def calibration_error(judged: Sequence[tuple[float, bool]], bins: int = 10) -> float:
    """Expected calibration error (Guo et al. 2017, section 2): mean gap of confidence and accuracy over bins, by their size."""
    gaps = (b.count * abs(b.confidence - b.accuracy) for b in reliability(judged, bins))
    return sum(gaps) / len(judged) if judged else float("nan")


def _share(marks: Iterable[bool]) -> float:
    found = list(marks)
    return sum(found) / len(found) if found else float("nan")
