"""Fusion of ranked lists: pure functions from several lists of (key, score) to one score a key.

Each list is one side of a hybrid query, best first; sides may have different score scales and lengths. Results lie in
0–1 when the weights sum to 1, so that what is added later (exact-match boost, popularity) has a known size beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

Ranked = Sequence[tuple[int, float]]
"""One side's answer: (point, score), best first."""


def rrf(lists: Sequence[Ranked], weights: Sequence[float], k: float = 20.0) -> dict[int, float]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009), scaled so that first place is worth a list's weight.

    Args:
        lists: one ranked list a side.
        weights: what each list counts, in the same order.
        k: how slowly the worth falls with the rank: rank r (from 0) is worth ``(k + 1) / (k + 1 + r)``.

    Raises:
        ValueError: fewer or more weights than lists.
    """
    fused: dict[int, float] = {}
    for ranked, weight in zip(lists, weights, strict=True):
        for rank, (point, _) in enumerate(ranked):
            fused[point] = fused.get(point, 0.0) + weight * (k + 1.0) / (k + 1.0 + rank)
    return fused


def dbsf(lists: Sequence[Ranked], weights: Sequence[float]) -> dict[int, float]:
    """Distribution-based score fusion: scores within three standard deviations of their list's mean, mapped to 0–1.

    As Qdrant's own `Fusion.Dbsf`, with weights. A list whose scores are all the same says nothing and counts one half.

    Raises:
        ValueError: fewer or more weights than lists.
    """
    fused: dict[int, float] = {}
    for ranked, weight in zip(lists, weights, strict=True):
        if not ranked:
            continue
        mean = sum([score for _, score in ranked]) / len(ranked)
        variance = sum([(score - mean) ** 2 for _, score in ranked]) / max(len(ranked) - 1, 1)
        low, span = mean - 3.0 * variance**0.5, 6.0 * variance**0.5
        for point, score in ranked:
            share = (score - low) / span if span > 1e-9 else 0.5
            inside = 0.0 if share < 0.0 else 1.0 if share > 1.0 else share
            fused[point] = fused.get(point, 0.0) + weight * inside
    return fused
