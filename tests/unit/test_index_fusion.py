"""Fusion of ranked lists, worked out by hand."""

from __future__ import annotations

import pytest

from app.index.fusion import dbsf, rrf


def test_rrf_gives_first_place_the_weight_of_its_list() -> None:
    """First place in a list is worth its weight, later places less, and what two lists found adds up."""
    assert rrf([[(1, 9.0), (2, 8.0)], [(2, 0.4)]], (0.6, 0.4), k=1.0) == pytest.approx({1: 0.6, 2: 0.6 * 2 / 3 + 0.4})


def test_dbsf_maps_three_deviations_around_the_mean_to_one() -> None:
    """Scores 1, 2, 3 have mean 2 and deviation 1: they must land at 1/3, 1/2 and 2/3."""
    assert dbsf([[(7, 3.0), (8, 2.0), (9, 1.0)]], (1.0,)) == pytest.approx({7: 2 / 3, 8: 1 / 2, 9: 1 / 3})


def test_dbsf_stands_out_where_a_list_is_sure() -> None:
    """A list with one outstanding score must decide against one whose scores are all about the same."""
    sure = [(1, 70.0)] + [(n, 20.0) for n in range(10, 40)]
    unsure = [(n, 0.31 - n * 1e-4) for n in range(2, 40)]
    fused = dbsf([sure, unsure], (0.5, 0.5))
    assert max(fused, key=lambda point: fused[point] if point < 10 else 0.0) == 1


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [
        pytest.param([], {}, id="empty"),
        pytest.param([(1, 5.0)], {1: 0.5}, id="one hit"),
        pytest.param([(1, 5.0), (2, 5.0)], {1: 0.5, 2: 0.5}, id="all the same"),
    ],
)
def test_dbsf_of_a_list_that_says_nothing_is_one_half(ranked: list[tuple[int, float]], expected: dict[int, float]) -> None:
    """Where scores do not differ there is no distribution: each counts one half, nothing divides by zero."""
    assert dbsf([ranked], (1.0,)) == expected


@pytest.mark.parametrize("fuse", [rrf, dbsf])
def test_weights_must_match_lists(fuse: object) -> None:
    """A forgotten weight is an error, not a list left out."""
    with pytest.raises(ValueError, match="zip"):
        fuse([[(1, 1.0)], [(2, 1.0)]], (1.0,))  # type: ignore[operator]
