"""Aggressive decoding on the shipped graphs gives what plain greedy decoding gives."""

from __future__ import annotations

import numpy as np
import pytest

from app.lexicon import Lexicon
from app.settings import Settings
from training.evaluation.cases import demo_items
from training.evaluation.decoding import GARBAGE, compare, drafts, queries
from training.local import LocalBackend


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    return LocalBackend(Settings().model_repository)


@pytest.mark.parametrize("with_candidates", [pytest.param(True, id="candidates"), pytest.param(False, id="query alone")])
def test_aggressive_decoding_equals_plain_greedy_token_for_token(backend: LocalBackend, with_candidates: bool) -> None:
    """300 clean, misspelt and garbage queries, with the lexicon's candidates as drafts and without: not one token differs."""
    items = demo_items()
    lexicon = Lexicon(items)
    asked = queries(items, 300, seed=31)
    texts = [a.text for a in asked]
    found = compare(backend, texts, [drafts(lexicon, text) if with_candidates else [] for text in texts])
    assert found.differing == []
    names = [passes for passes, a in zip(found.passes, asked, strict=True) if a.sort != GARBAGE]
    assert sum(names) / len(names) < 3


def test_an_answer_does_not_depend_on_its_batch(backend: LocalBackend) -> None:
    """Per-token quantisation: log-probabilities of a query alone and among longer and shorter ones agree to rounding."""
    texts = ["halo", "bilie jean micheal jackson", "🎵 x"]
    scores = []
    for batch in (texts, texts[:1]):
        sources = backend.encode([[text] for text in batch])[:, 0]
        _, logprobs, candidates, own, _ = backend.aggressive.decode(
            sources, backend.encode([["hello", "halo halo"]] * len(batch)), backend.verifier(sources)
        )
        scores.append(np.array([logprobs[0], own[0], *candidates[0]]))
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
