"""Simulated traffic: queries of the demo catalogue with typos, as `perf_analyzer --input-data` reads them.

Random token ids would fall outside the vocabulary, and random texts would decode to garbage of any length.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.domain import Item
from app.index.readers import read_items
from app.lexicon import Lexicon
from app.text import fold
from training.noise import corrupt

MISTYPED = 0.7  # as in loadtest/locustfile.py
MAX_CANDIDATES = 5  # as app/speller.py sends
SEED = 20


def queries(items: Sequence[Item], count: int, rng: random.Random) -> list[str]:
    """Folded titles drawn by popularity, seven of ten with typing errors."""
    names = [item for item in items if len(item.title) > 3]
    drawn = rng.choices(names, [max(item.popularity, 1.0) for item in names], k=count)
    folded = [fold(item.title) for item in drawn]
    return [corrupt(text, rng) if rng.random() < MISTYPED else text for text in folded]


def write_inputs(catalogue: Path, out: Path, count: int) -> None:
    """Writes `<model>.json` for each model into `out`.

    Args:
        count: requests in each file; `perf_analyzer` goes round them.
    """
    items = [row for row in read_items(catalogue) if isinstance(row, Item)]
    texts = queries(items, count, random.Random(SEED))
    lexicon = Lexicon(items)
    candidates = [[c.text for c in lexicon.proposals(text, MAX_CANDIDATES)] or [text] for text in texts]
    out.mkdir(parents=True, exist_ok=True)
    save(out / "embedder.json", [{"QUERY": [text]} for text in texts])
    spelt = zip(texts, candidates, strict=True)
    save(out / "speller.json", [{"QUERY": [text], "CANDIDATES": texts_of(options)} for text, options in spelt])


def texts_of(options: Sequence[str]) -> dict[str, Any]:
    """A tensor of texts in the JSON form that names its shape."""
    return {"content": list(options), "shape": [len(options)]}


def save(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text(json.dumps({"data": rows}), encoding="utf-8")
