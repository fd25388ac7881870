"""The gate's arithmetic and its queries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.inference import Array
from app.parity import Answers, Report, Tolerances, compare
from app.parity_queries import MOST_TYPOS, Probe, names, probes
from tests.conftest import DEMO

PROBES = [Probe(f"query {i}", ("a", "b")) for i in range(200)]
RNG = np.random.default_rng(3)
PASSAGES = RNG.normal(size=(500, 32)).astype(np.float32)


def unit(array: Array) -> Array:
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def answers() -> Answers:
    rng = np.random.default_rng(4)
    vectors = unit(rng.normal(size=(len(PROBES), 32))).astype(np.float32)
    return Answers([probe.query for probe in PROBES], -rng.uniform(0, 9, (len(PROBES), 4)), vectors)


def judged(change: Callable[[Answers], None]) -> Report:
    candidate = answers()
    change(candidate)
    return compare(PROBES, answers(), candidate, PASSAGES, Tolerances())


def put(array: Array, at: object, value: object) -> None:
    array[at] = value  # type: ignore[index]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda a: None, id="nothing"),
        pytest.param(lambda a: put(a.texts, 5, "another"), id="one text of 200"),
        pytest.param(lambda a: put(a.logprobs, slice(None), a.logprobs + 0.2), id="log-probabilities a little off"),
        pytest.param(lambda a: put(a.embeddings, slice(None), a.embeddings * 1.001), id="vectors a little longer"),
    ],
)
def test_what_is_within_the_tolerances_passes(change: Callable[[Answers], None]) -> None:
    """Small differences are reported and let through."""
    assert judged(change).failures == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda a: put(a.texts, slice(0, 3), ["x"] * 3), "texts identical", id="three texts of 200"),
        pytest.param(lambda a: put(a.logprobs, slice(0, 20), 0.0), "log-probabilities", id="log-probabilities"),
        pytest.param(lambda a: put(a.logprobs, (7, 1), np.nan), "not finite", id="one log-probability is no number"),
        pytest.param(lambda a: put(a.embeddings, (7, 1), np.inf), "not finite", id="one number of a vector"),
        pytest.param(lambda a: put(a.embeddings, 7, -a.embeddings[7]), "cosine", id="one vector turned round"),
        pytest.param(
            lambda a: put(a.embeddings, slice(None), a.embeddings[::-1].copy()), "top-10", id="vectors in another order"
        ),
    ],
)
def test_what_is_beyond_them_fails(change: Callable[[Answers], None], said: str) -> None:
    """Each tolerance is named by itself when it is not kept."""
    report = judged(change)
    assert not report.passed and any(said in failure for failure in report.failures)


def test_differing_texts_are_shown() -> None:
    """The report holds examples, with both readings."""
    report = judged(lambda a: put(a.texts, 5, "another"))
    assert report.different == [{"query": "query 5", "reference": "query 5", "candidate": "another"}]


def test_queries_are_the_same_for_the_same_seed() -> None:
    """A seed gives one list; another seed another; a third of it is as the catalogue has it, the rest has slips."""
    first, again, other = probes(DEMO, 600, 7), probes(DEMO, 600, 7), probes(DEMO, 600, 8)
    assert first == again != other
    untouched = sum(probe.query == probe.readings[0] for probe in first) / len(first)
    assert 1 / (1 + MOST_TYPOS) - 0.06 < untouched < 1 / (1 + MOST_TYPOS) + 0.1
    assert all(probe.query.strip() and len(probe.readings) == 2 for probe in first)
    known = set(names(DEMO))
    assert all(reading in known for probe in first for reading in probe.readings)


def test_a_name_of_one_letter_survives_its_typos(tmp_path: Path) -> None:
    """No slip empties a query."""
    catalogue = tmp_path / "one.csv"
    catalogue.write_text("title,artist\nx,\n", encoding="utf-8")
    assert all(probe.query for probe in probes(catalogue, 200, 1))
