"""Which reading of a query was meant: candidate features, a small scoring network and calibrated probabilities.

The network is a multilayer perceptron over the features below, trained listwise (softmax over a query's candidates) by
`training/speller/rerank.py` and shipped as JSON; the query itself is a candidate like any other, so a confidence falls out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA, JaroWinkler

from app.errors import SetupError
from app.lexicon import Lexicon

Matrix = npt.NDArray[np.float32]

FEATURES = (
    "is_query", "query_words_known", "is_name", "name_fame", "words_known", "least_word_fame", "mean_word_fame", "price",
    "price_per_letter", "price_over_least", "rarity", "rarity_and_price_over_least", "distance", "distance_share",
    "jaro_winkler", "first_letter_kept", "same_letters", "digits_changed", "words_changed", "known_words_changed",
    "word_count_change", "logprob", "logprob_per_char", "logprob_below_best", "logprob_over_query", "is_greedy",
    "unknown_words", "query_chars", "query_words",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate reading and its log-probability under the speller given the query (natural log, whole text)."""

    text: str
    logprob: float
    greedy: bool = False


def features(query: str, candidates: Sequence[Scored], lexicon: Lexicon) -> Matrix:
    """float32 [len(candidates), len(FEATURES)], each roughly within ±3. `candidates[0]` is the query itself."""
    query_words = query.split()
    words_before = set(query_words)
    known_before = {w for w in words_before if w in lexicon.words}
    letters_before = _letters(query)
    prices = [lexicon.price(query, c.text) for c in candidates]
    rarities = [lexicon.rarity(c.text) for c in candidates]
    least_price = min(prices[1:], default=0.0)
    least_sum = min((p + r for p, r in zip(prices[1:], rarities[1:], strict=True)), default=0.0)
    best, own = max(c.logprob for c in candidates), candidates[0].logprob
    rows = []
    for c, price, rarity in zip(candidates, prices, rarities, strict=True):
        words = c.text.split()
        fames = [lexicon.word_fame(w) for w in words] or [0.0]
        distance = OSA.distance(query, c.text)
        gone = words_before - set(words)
        rows.append(
            (
                c.text == query,
                c.text == query and len(known_before) == len(words_before),
                lexicon.is_name(c.text),
                math.log1p(lexicon.names.get(c.text, 0)) / 4,
                sum(f > 0 for f in fames) / len(fames),
                min(fames),
                sum(fames) / len(fames),
                min(price, 30) / 10,
                min(price / max(len(query), 1), 3),
                min(price - least_price, 30) / 10,
                min(rarity, 40) / 20,
                max(min(price + rarity - least_sum, 30), -30) / 10,
                min(distance, 6) / 2,
                3 * distance / max(len(query), len(c.text), 1),
                3 * (1 - JaroWinkler.similarity(query, c.text)),
                query[:1] == c.text[:1],
                letters_before == _letters(c.text),
                any(ch.isdigit() for w in gone for ch in w),
                len(gone) / max(len(query_words), 1),
                len(gone & known_before) / max(len(query_words), 1),
                min(abs(len(words) - len(query_words)), 3),
                max(c.logprob, -40) / 10,
                max(c.logprob / max(len(c.text), 1), -4),
                max(c.logprob - best, -30) / 10,
                min(max(c.logprob - own, -30), 30) / 10,
                c.greedy,
                1 - len(known_before) / max(len(words_before), 1),
                len(query) / 20,
                len(query_words) / 4,
            )
        )
    return np.asarray(rows, np.float32)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


class Reranker:
    """Probabilities over candidates from their features."""

    def __init__(self, layers: Sequence[tuple[Matrix, Matrix]], temperature: float) -> None:
        self._layers = layers
        self._temperature = temperature

    @classmethod
    def load(cls, path: Path) -> Reranker:
        """Read the JSON that `training/speller/rerank.py` writes.

        Raises:
            SetupError: the file is missing, or was fitted to other features.
        """
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise SetupError(f"{path}: no readable reranker; make one with `searchbar train reranker`") from exc
        if tuple(stored["features"]) != FEATURES:
            raise SetupError(f"{path}: fitted to other features; fit it again with `searchbar train reranker`")
        layers = [(np.asarray(w, np.float32), np.asarray(b, np.float32)) for w, b in stored["layers"]]
        return cls(layers, stored["temperature"])

    def probabilities(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Calibrated probability of each row of `features`, summing to one."""
        x = matrix
        for weight, bias in self._layers[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = self._layers[-1]
        logits = (x @ weight + bias)[:, 0].astype(np.float64) / self._temperature
        odds = np.exp(logits - logits.max())
        return np.asarray(odds / odds.sum())
