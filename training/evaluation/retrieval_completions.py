"""How long `/v1/suggest` thinks: `Completions.complete` over seeded beginnings of a catalogue's names."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import numpy as np

from app.completion import Completions
from app.domain import Item
from app.text import fold
from training.noise import corrupt

SEED, COUNT, LIMIT, LONGEST, WARM_UP = 20_261_124, 2000, 8, 12, 200
TYPOS_FROM = 4  # characters


def prefixes(items: Sequence[Item], count: int) -> list[str]:
    """Beginnings of 1 to `LONGEST` characters of titles and artists; every third has four or more and one typing error."""
    rng = random.Random(SEED)
    names = [fold(name) for item in items for name in (item.title, item.artist) if len(fold(name)) >= TYPOS_FROM]
    typed: list[str] = []
    while len(typed) < count:
        wrong = len(typed) % 3 == 0
        prefix = rng.choice(names)[: rng.randint(TYPOS_FROM if wrong else 1, LONGEST)].strip()
        typed.append(corrupt(prefix, rng, 1)[:LONGEST] if wrong and len(prefix) >= TYPOS_FROM else prefix)
    return typed


def completion_latency(items: Sequence[Item], count: int = COUNT) -> tuple[float, float, float]:
    """(p50, p90, p99) milliseconds of a completion, asked one at a time after `WARM_UP` others."""
    completions = Completions(items)
    took_ms = []
    for at, typed in enumerate(prefixes(items, WARM_UP + count)):
        started = time.perf_counter()
        completions.complete(typed, LIMIT)
        if at >= WARM_UP:
            took_ms.append((time.perf_counter() - started) * 1000)
    p50, p90, p99 = np.percentile(took_ms, (50, 90, 99)).tolist()
    return p50, p90, p99
