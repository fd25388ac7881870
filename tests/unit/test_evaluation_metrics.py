"""What the evaluation counts, on outcomes small enough to count by hand."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("symspellpy", reason="the dev extra is not installed")

from app.domain import Alternative, Correction
from training.evaluation import metrics
from training.evaluation.cases import Case
from training.evaluation.methods import proposal, replies
from training.evaluation.metrics import Outcome, Reply
from training.evaluation.policy import Judged, best_policy, best_threshold, effect, judge
from training.evaluation.querysets import CLEAN, ONE


def outcome(typed: str, meant: str, *readings: str, confidence: float = 0.0, proposed: str = "", ms: float = 1.0) -> Outcome:
    suggested = (proposed, confidence) if proposed else None
    return Outcome(Case(typed, meant), Reply(readings[0], readings[1:], confidence, suggested), ms)


TYPOS = [
    outcome("metalica", "metallica", "metallica", "metals"),
    outcome("nirvanna", "nirvana", "nirvanna", "havana", "nirvana"),
    outcome("abbba", "abba", "abbba"),
    outcome("quen", "queen", "quen", "queen"),
]


def test_exact_match_counts_the_first_reading_alone():
    """One of four typos is answered by the reply itself."""
    assert metrics.exact(TYPOS) == 0.25


def test_readings_offered_beside_the_reply_count_by_their_position():
    """Right answers at positions 1, 3 and 2 and one that is not there: mean reciprocal rank (1 + 1/3 + 0 + 1/2) / 4."""
    assert metrics.among(TYPOS) == 0.75
    assert metrics.reciprocal_rank(TYPOS) == pytest.approx((1 + 1 / 3 + 0 + 1 / 2) / 4)


def test_a_reading_that_repeats_the_reply_takes_no_position():
    """The reply offered again beside itself does not push the right reading down."""
    assert metrics.reciprocal_rank([outcome("quen", "queen", "quen", "quen", "queen")]) == 0.5


@pytest.mark.parametrize(
    ("answer", "changed"),
    [
        pytest.param("work out", False, id="kept"),
        pytest.param("workout", False, id="spacing alone"),
        pytest.param("work but", True, id="another word"),
    ],
)
def test_a_correct_query_is_broken_by_what_a_listener_would_see(answer: str, changed: bool):
    """Spacing is no change, a letter is."""
    assert metrics.broken([outcome("work out", "work out", answer)]) == float(changed)


def test_figures_over_nothing_are_no_figures():
    """An empty set gives NaN, which tables show as a dash, not 0 %."""
    empty = [metrics.exact([]), metrics.broken([]), metrics.reciprocal_rank([]), *metrics.latency([])]
    assert all(math.isnan(figure) for figure in empty)
    assert math.isnan(metrics.calibration_error([]))


def test_latency_is_median_and_mean():
    """One slow query moves the mean and not the median."""
    assert metrics.latency([outcome("a", "a", "a", ms=ms) for ms in (1, 2, 9)]) == (2, 4)


def test_calibration_error_weights_each_bin_by_its_queries():
    """Four queries at 0.95 of which three are right, one at 0.15 that is wrong: (4·|0.95-0.75| + 1·0.15) / 5."""
    judged = [(0.95, True)] * 3 + [(0.95, False), (0.15, False)]
    low, high = metrics.reliability(judged)
    assert (low.confidence, low.accuracy, low.count) == (pytest.approx(0.15), 0.0, 1)
    assert (high.confidence, high.accuracy, high.count) == (pytest.approx(0.95), 0.75, 4)
    assert metrics.calibration_error(judged) == pytest.approx((4 * 0.2 + 0.15) / 5)


def test_certainty_belongs_to_the_last_bin():
    """A confidence of exactly 1 is no bin of its own."""
    assert metrics.calibration_error([(1.0, True)]) == 0.0


def test_a_suggestion_is_searched_only_where_it_counts_as_acted_on():
    """Under `replace` a suggested reading is second to the query, under `replace or suggest` it is the reply."""
    found = Correction("quen", "queen", True, 0.6, "suggest", (Alternative("quem", 0.2),))
    replaced, acted = replies(found)
    assert (replaced.text, replaced.others) == ("quen", ("queen", "quem"))
    assert (acted.text, acted.others, acted.proposal) == ("queen", ("quem",), ("queen", 0.6))


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [pytest.param(0.3, ("queen", 0.35), id="likelier than the query"), pytest.param(0.5, ("queen", 0.35), id="less likely")],
)
def test_what_stays_below_the_threshold_is_still_known_as_a_proposal(confidence: float, expected: tuple[str, float]):
    """Thresholds lower than the one in force can be judged: the runner-up counts, whether or not it beats the query."""
    assert proposal(Correction("quen", "quen", False, confidence, "none", (Alternative("queen", 0.35),))) == expected


JUDGED = [
    Judged(10, 0.9, right=True, misspelt=True),
    Judged(10, 0.6, right=True, misspelt=True),
    Judged(5, 0.7, right=False, misspelt=False),
    Judged(75, 0.0, right=False, misspelt=False),
]


@pytest.mark.parametrize(
    ("threshold", "wrong", "missed"),
    [
        pytest.param(0.5, 5, 0, id="acts on all"),
        pytest.param(0.8, 0, 10, id="misses the unsure one"),
        pytest.param(0.95, 0, 20, id="acts on nothing"),
    ],
)
def test_a_threshold_trades_wrong_actions_for_missed_ones(threshold: float, wrong: float, missed: float):
    """Weights add up by what acting from the threshold on does; the cost counts a wrong one tenfold."""
    found = effect(JUDGED, threshold, wrong_cost=10)
    assert (found.wrong, found.missed, found.cost) == (wrong, missed, 10 * wrong + missed)


def test_the_cheapest_threshold_follows_the_cost_of_a_wrong_action():
    """Ten missed ones for a wrong one: act only above the wrong proposal; one for one: act on all. Ties go to the highest."""
    assert best_threshold(JUDGED, wrong_cost=10).threshold == 0.9
    assert best_threshold(JUDGED, wrong_cost=1).threshold == 0.6
    replace, suggest = best_policy(JUDGED)
    assert (replace.threshold, suggest.threshold) == (0.9, 0.6)


def test_traffic_shares_do_not_depend_on_how_many_queries_were_asked():
    """Each group gets its share of 1 000 queries, scaled up where others are missing, however large its sample is."""
    typos = [outcome("quen", "queen", "queen", confidence=0.8, proposed="queen")] * 3
    judged = judge([(ONE, typos), (CLEAN, [outcome("queen", "queen", "queen")]), ("unknown group", typos)])
    assert sum(j.weight for j in judged) == pytest.approx(1000)
    assert sum(j.weight for j in judged if j.misspelt) == pytest.approx(1000 * 0.09 / 0.59)
    assert [j.right for j in judged] == [True, True, True, True]
    assert judged[-1].confidence == 0.0
