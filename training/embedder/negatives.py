"""Hard negatives: for each item the items that the model, as it is, takes its name for.

They are not added to a batch as passages of their own, which would cost a third more encoding; they are drawn into it as pairs:
`batch` puts beside a drawn item one of those it is mistaken for, so that each is a negative of the other's query.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer

from app.text import fold
from training.embedder.pairs import Entry, Pair, Pairs

NEAREST = 16  # passages looked at for each name
KEPT = 8  # of them, at most, that bear another name
MINED = 16_000  # entries of a catalogue, the most popular ones: a minute or two of encoding on two CPU cores
BLOCK = 2_048  # names compared at once: a block of scores takes 330 MB at most


def mine(model: SentenceTransformer, pairs: Pairs) -> int:
    """Fill `near` of the entries of each catalogue by what `model` finds for their names; returns how many have some."""
    found = 0
    for group in pairs.groups:
        entries = sorted(group, key=lambda entry: -entry.item.popularity)[:MINED]
        if len(entries) <= NEAREST:
            continue
        names = _encode(model, (fold(f"{e.item.title} {e.item.artist}") for e in entries))
        passages = _encode(model, (e.passage for e in entries))
        for start in range(0, len(entries), BLOCK):
            scores = names[start : start + BLOCK] @ passages.T
            nearest = np.argpartition(scores, -NEAREST, axis=1)[:, -NEAREST:]
            for entry, row in zip(entries[start : start + BLOCK], nearest.tolist(), strict=True):
                title = fold(entry.item.title)
                entry.near = [entries[i] for i in row if fold(entries[i].item.title) != title][:KEPT]
                found += bool(entry.near)
    return found


def batch(pairs: Pairs, size: int, hard: float) -> list[Pair]:
    """`size` drawn pairs, a share `hard` of them about items that others of the batch are easily taken for."""
    drawn: list[Entry] = []
    while len(drawn) < size:
        entry = pairs.pick()
        drawn.append(entry)
        if entry.near and len(drawn) < size and pairs.rng.random() < hard / (1.0 - hard):
            drawn.append(pairs.rng.choice(entry.near))
    return [pairs.about(entry) for entry in drawn]


def _encode(model: SentenceTransformer, texts: Iterable[str]) -> npt.NDArray[np.float32]:
    found = model.encode(list(texts), batch_size=256, show_progress_bar=False, convert_to_numpy=True)
    return np.asarray(found, np.float32)
