"""Aggressive decoding on the shipped graphs gives what plain greedy decoding gives."""

from __future__ import annotations

import random
import string

import numpy as np
import pytest

from app.index.readers import Rejected, read_items
from app.lexicon import Lexicon
from app.settings import Settings
from app.text import fold
from tests.conftest import DEMO
from training.local import PAD, LocalBackend
from training.noise import corrupt

START = EOS = 2
BATCH = 32


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    return LocalBackend(Settings().model_repository)


def queries(rng: random.Random, count: int) -> tuple[list[str], Lexicon]:
    """Clean names, names with one to three errors, and garbage, a third each."""
    items = [item for item in read_items(DEMO) if not isinstance(item, Rejected)]
    names = [fold(rng.choice((i.title, i.artist, f"{i.title} {i.artist}"))) for i in rng.sample(items, count)]
    mixed = [name if n % 3 == 0 else corrupt(name, rng) for n, name in enumerate(names)]
    alphabet = string.ascii_lowercase + string.digits + "  '&-éü漢🎵"
    for n in range(2, count, 3):
        mixed[n] = "".join(rng.choices(alphabet, k=rng.randint(1, 30))).strip() or "x"
    return mixed, Lexicon(items)


def plain_greedy(verify, sources: np.ndarray, limits: list[int]) -> list[list[int]]:
    """One token a pass for every row, the way `generate` does it."""
    outputs: list[list[int]] = [[] for _ in sources]
    while active := [b for b, out in enumerate(outputs) if len(out) < limits[b] and (not out or out[-1] != EOS)]:
        width = max(len(outputs[b]) for b in active) + 1
        prefix = np.full((len(active), width), PAD, np.int64)
        for row, b in enumerate(active):
            prefix[row, : len(outputs[b]) + 1] = [START, *outputs[b]]
        argmax, _, _ = verify(np.array(active, np.int64), prefix, prefix)
        for row, b in enumerate(active):
            outputs[b].append(int(argmax[row, len(outputs[b])]))
    return outputs


def test_aggressive_decoding_equals_plain_greedy_token_for_token(backend: LocalBackend):
    """300 clean, misspelt and garbage queries with the lexicon's candidates as drafts: not one token differs."""
    texts, lexicon = queries(random.Random(31), 300)
    aggressive = backend._aggressive
    differing, passes = [], []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        drafts = [[c.text for c in lexicon.candidates(t, 4)] for t in batch]
        width = max(1, *map(len, drafts))
        encoded = backend._encode(np.array([[t.encode()] for t in batch], np.object_))[:, 0]
        padded = [[d.encode() for d in row] + [b""] * (width - len(row)) for row in drafts]
        candidates = backend._encode(np.array(padded, np.object_))
        verify = backend.verifier(encoded)
        outputs, *_, taken = aggressive.decode(encoded, candidates, verify)
        limits = [min(len(aggressive.strip(row)) + aggressive.SLACK, aggressive.MAX_TOKENS) for row in encoded]
        differing += [t for t, a, b in zip(batch, outputs, plain_greedy(verify, encoded, limits), strict=True) if a != b]
        passes += taken.tolist()
    assert differing == []
    assert sum(passes) / len(passes) < 3


def test_an_answer_does_not_depend_on_its_batch(backend: LocalBackend):
    """Per-token quantisation: log-probabilities of a query alone and among others agree to rounding."""
    batch = backend._encode(np.array([[b"halo"], [b"bilie jean micheal jackson"], [b"\xf0\x9f\x8e\xb5 x"]], np.object_))[:, 0]
    alone = backend._encode(np.array([[b"halo"]], np.object_))[:, 0]
    rows, prefix = np.zeros(1, np.int64), np.array([[2, *alone[0][:-1]]], np.int64)
    labels = alone.astype(np.int64)
    _, _, together = backend.verifier(batch)(rows, prefix, labels)
    _, _, single = backend.verifier(alone)(rows, prefix, labels)
    assert together == pytest.approx(single, abs=1e-4)
