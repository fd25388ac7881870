"""What a query to a sparse side of a large index leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.domain import Item
from app.errors import IndexUnavailable
from app.index.frequent import FEWEST, FEWEST_TAGS, POSTINGS, SAMPLED, FeatureCounts, Frequent
from app.index.ngrams import Sparse, encode_tags
from app.index.schema import NAME, TAGS

MILLION = 1_000_000
QUERY = Sparse([1, 2, 3, 4, 5, 6], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def test_the_rarest_features_stay_as_far_as_the_postings_reach() -> None:
    """Features of few items are asked, in the order and with the values of the query; those of very many are not."""
    frequent = Frequent({NAME: {2: 0.5, 4: 0.03, 6: 0.3}}, MILLION)
    assert frequent.without(NAME, QUERY) == Sparse([1, 3, 4, 5], [1.0, 3.0, 4.0, 5.0])
    assert 3 * 0.002 * MILLION + 0.03 * MILLION < POSTINGS < 0.3 * MILLION


def test_some_features_are_asked_however_frequent_they_are() -> None:
    """A query of nothing but frequent features must keep its rarest, for they are all it says."""
    frequent = Frequent({NAME: {f: 0.9 - f / 100 for f in QUERY.indices}}, MILLION)
    assert frequent.without(NAME, QUERY).indices == [4, 5, 6]
    assert FEWEST == 3
    assert frequent.without(NAME, QUERY, FEWEST_TAGS).indices == [6]


@pytest.mark.parametrize(
    ("side", "items"),
    [pytest.param(NAME, 10_000, id="a small catalogue"), pytest.param(TAGS, MILLION, id="another side")],
)
def test_nothing_is_left_out_where_it_costs_little(side: str, items: int) -> None:
    """A small catalogue asks every feature, and the shares of one side say nothing of the other."""
    assert Frequent({NAME: {2: 0.5, 6: 0.3}}, items).without(side, QUERY) == QUERY


def test_what_is_counted_in_a_sample_is_what_is_left_out(tmp_path: Path) -> None:
    """Of many songs, a few of them sad, a query for sad songs must keep `sad`, and `song` where it is among the fewest."""
    counts = FeatureCounts()
    for at in range(0, 200 * SAMPLED, 100):
        items = [Item(f"{n}", "Halo", moods=("sad", "slow") if n % (50 * SAMPLED) == 0 else ()) for n in range(at, at + 100)]
        counts.add(items)
    counts.write(tmp_path)
    query = encode_tags("sad slow song music track")
    kept = Frequent.read(tmp_path, MILLION).without(TAGS, query)
    assert set(encode_tags("sad slow").indices) <= set(kept.indices) and len(kept.indices) == FEWEST


def test_an_index_without_counts_is_asked_in_full_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    """Older indexes have no such file; one that cannot be read is not taken for one."""
    assert Frequent.read(tmp_path, MILLION).without(NAME, QUERY) == QUERY
    (tmp_path / "frequent.json").write_text('{"name": [1, 2')
    with pytest.raises(IndexUnavailable, match="build the index again"):
        Frequent.read(tmp_path, MILLION)
