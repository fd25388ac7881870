"""Thresholds by cost: how many wrong replacements a missed correction is worth, over a stated mix of traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.evaluation.metrics import Outcome
from training.evaluation.querysets import CLEAN, ONE, OTHER, PART, REAL, TWO

# Shares of the traffic: 85 % correct queries, 15 % misspelt (Cucerzan and Brill, EMNLP 2004: 10-15 % of web queries).
TRAFFIC = {CLEAN: 0.50, PART: 0.20, OTHER: 0.15, ONE: 0.09, TWO: 0.03, REAL: 0.03}
# What a wrong one costs, in missed corrections: a replaced query can be had back with one click, a suggestion is one line.
# A calibrated confidence is acted on from cost / (1 + cost): 0.86 and 0.25.
REPLACE_COST, SUGGEST_COST = 6.0, 1 / 3
GRID = tuple(n / 100 for n in range(20, 100))


@dataclass(frozen=True, slots=True)
class Judged:
    """One query: what would be proposed, and whether it would be right.

    Attributes:
        weight: queries of the traffic that it stands for.
        confidence: probability of the best reading other than the query; 0 where none is likelier than the query.
        right: that reading is what was meant.
        misspelt: the query is not what was meant.
    """

    weight: float
    confidence: float
    right: bool
    misspelt: bool


@dataclass(frozen=True, slots=True)
class Effect:
    """What acting from one threshold on does, for the weight judged: wrong actions, corrections missed, and their cost."""

    threshold: float
    wrong: float
    missed: float
    cost: float


def judge(groups: Iterable[tuple[str, Sequence[Outcome]]], queries: float = 1000.0) -> list[Judged]:
    """Outcomes weighted to `queries` queries of the traffic mix, whose shares are scaled up where groups are missing."""
    found = [(group, o) for group, outcomes in groups if group in TRAFFIC for o in outcomes]
    sizes = Counter(group for group, _ in found)
    total = sum(TRAFFIC[group] for group in sizes)
    judged = []
    for group, o in found:
        text, confidence = o.reply.proposal or (o.case.typed, 0.0)
        weight = queries * TRAFFIC[group] / total / sizes[group]
        judged.append(Judged(weight, confidence, text == o.case.meant, o.case.typed != o.case.meant))
    return judged


def effect(judged: Iterable[Judged], threshold: float, wrong_cost: float) -> Effect:
    """Acting on every proposal of at least `threshold`. A missed correction costs 1: misspelt, and not acted on."""
    wrong = missed = 0.0
    for j in judged:
        if j.confidence >= threshold:
            wrong += 0.0 if j.right else j.weight
        elif j.misspelt:
            missed += j.weight
    return Effect(threshold, wrong, missed, wrong_cost * wrong + missed)


def best_threshold(judged: Sequence[Judged], wrong_cost: float, grid: Sequence[float] = GRID) -> Effect:
    """The cheapest threshold of the grid; of equally cheap ones the highest, which acts least."""
    return min((effect(judged, t, wrong_cost) for t in grid), key=lambda e: (round(e.cost, 9), -e.threshold))


def best_policy(judged: Sequence[Judged]) -> tuple[Effect, Effect]:
    """(replace, suggest). Costs add up query by query, so the two are chosen apart; suggest is at most replace."""
    replace = best_threshold(judged, REPLACE_COST)
    suggest = best_threshold(judged, SUGGEST_COST, [t for t in GRID if t <= replace.threshold])
    return replace, suggest
