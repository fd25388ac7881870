"""Which setting serves most within the latency budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from app.errors import SetupError
from training.tuning.perf_analyzer import Point
from training.tuning.settings import Setting

BUDGET_MS = 25.0
ENOUGH = 1.2
ALIKE = 0.03  # shares of throughput that two runs of the same setting differ by


@dataclass(frozen=True, slots=True)
class Candidate:
    """A setting for each model behind one top-level model."""

    name: str
    settings: Mapping[str, Setting]

    @property
    def instances(self) -> int:
        return sum(setting.instances for setting in self.settings.values())


@dataclass(frozen=True, slots=True)
class Trial:
    """What one candidate did.

    Attributes:
        target: the model that was asked.
        round: 0 in the search; the rounds of the comparison count from 1.
        points: one for each concurrency that could be measured.
    """

    target: str
    candidate: Candidate
    round: int
    points: tuple[Point, ...]

    def best(self, budget_ms: float = BUDGET_MS) -> Point | None:
        """The most inferences a second whose p90 keeps the budget; None when no concurrency keeps it."""
        within = [point for point in self.points if point.p90_ms <= budget_ms]
        return max(within, key=lambda point: point.throughput, default=None)


def throughput(trial: Trial, budget_ms: float = BUDGET_MS) -> float:
    """Inferences a second within the budget; 0 when there are none."""
    best = trial.best(budget_ms)
    return best.throughput if best else 0.0


def choose(trials: Sequence[Trial], budget_ms: float = BUDGET_MS) -> Trial:
    """The trial with the most throughput within the budget; among those about as good, the one of fewest instances.

    Of equals the first: list the simple ones first. When none keeps the budget, the one of the lowest latency.

    Raises:
        SetupError: nothing was measured.
    """
    measured = [trial for trial in trials if trial.points]
    if not measured:
        raise SetupError("no setting could be measured: see the log")
    most = max(throughput(trial, budget_ms) for trial in measured)
    if not most:
        return min(measured, key=lambda trial: min(point.p90_ms for point in trial.points))
    good = [trial for trial in measured if throughput(trial, budget_ms) >= most * (1 - ALIKE)]
    return min(good, key=lambda trial: trial.candidate.instances)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The chosen setting beside the naive one, measured in turn in one run.

    Attributes:
        naive, chosen: inferences a second within the budget, median over the rounds.
    """

    naive: float
    chosen: float

    @property
    def ratio(self) -> float:
        """chosen / naive; not a number when the naive setting never keeps the budget, which tells of a busy machine."""
        return self.chosen / self.naive if self.naive else float("nan")

    @property
    def enough(self) -> bool:
        return self.ratio >= ENOUGH


def compare(trials: Sequence[Trial], naive: str, chosen: str, budget_ms: float = BUDGET_MS) -> Verdict:
    """The verdict of the comparison's rounds; the candidates are given by name.

    Raises:
        SetupError: one of them was not measured.
    """
    rounds = [trial for trial in trials if trial.round]
    figures = [[throughput(t, budget_ms) for t in rounds if t.candidate.name == name] for name in (naive, chosen)]
    if not all(figures):
        raise SetupError("the comparison was not measured")
    return Verdict(*(median(found) for found in figures))
