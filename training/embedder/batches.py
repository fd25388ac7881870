"""What the embedder learns from: drawn pairs as token ids, in pieces of like length, and which passages answer which query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import IterableDataset, get_worker_info

from training.embedder.negatives import batch
from training.embedder.pairs import Facts, Pair, Pairs

PIECE = 512  # texts at least that are padded to the same length; a smaller batch is one piece


class Piece(NamedTuple):
    """Texts of a batch that are about equally long."""

    places: torch.Tensor  # [m] int64: where they stand in the batch
    ids: torch.Tensor  # [m, tokens] int64
    mask: torch.Tensor  # likewise, 0 at padding


class Batch(NamedTuple):
    """`size` pairs; query i's own passage is passage i."""

    size: int
    queries: list[Piece]
    passages: list[Piece]
    facts: int  # different facts that the queries ask for
    needs: torch.Tensor  # [2, k] int64: query, fact that a passage must have to answer it
    has: torch.Tensor  # [2, l] int64: passage, fact that it has

    def right(self, device: torch.device) -> torch.Tensor:
        """[size, size] bool: whether passage j answers query i."""
        needs, has = (torch.zeros(self.size, self.facts, device=device) for _ in range(2))
        needs[tuple(self.needs.to(device, non_blocking=True))] = 1.0
        has[tuple(self.has.to(device, non_blocking=True))] = 1.0
        return needs @ has.T == needs.sum(1, keepdim=True)


def collate(model: Any, pairs: list[Pair], chunk: int | None = None) -> Batch:
    """`pairs` as the tokenizer of `model` sees them, in pieces of at most `chunk` texts where that is given."""
    asked: dict[str, int] = {}
    for pair in pairs:
        for fact in pair.constraint:
            asked.setdefault(fact, len(asked))
    needs, has = (_places([getattr(p, facts) for p in pairs], asked) for facts in ("constraint", "facts"))
    size = chunk or max(PIECE, -(-len(pairs) // 4))
    queries, passages = (_pieces(model, [getattr(p, text) for p in pairs], size) for text in ("query", "passage"))
    return Batch(len(pairs), queries, passages, len(asked), needs, has)


def _places(rows: list[Facts], asked: dict[str, int]) -> torch.Tensor:
    found = [(row, asked[fact]) for row, facts in enumerate(rows) for fact in facts if fact in asked]
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 2).T


def _pieces(model: Any, texts: list[str], size: int) -> list[Piece]:
    order = sorted(range(len(texts)), key=lambda at: len(texts[at])) if size < len(texts) else list(range(len(texts)))
    pieces = []
    for start in range(0, len(order), size):
        places = order[start : start + size]
        features = model.preprocess([texts[at] for at in places])
        pieces.append(Piece(torch.tensor(places), features["input_ids"], features["attention_mask"]))
    return pieces


class Batches(IterableDataset[Batch]):
    """Endless batches of `size` pairs, a share `hard` of them easily taken for others; deterministic in the seed."""

    def __init__(self, model: Any, pairs: Pairs, seed: str, size: int, hard: float, chunk: int | None) -> None:
        self.model, self.pairs, self.seed, self.size, self.hard, self.chunk = model, pairs, seed, size, hard, chunk

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        self.pairs.rng.seed(f"{self.seed}/{worker.id}" if worker else self.seed)
        while True:
            yield collate(self.model, batch(self.pairs, self.size, self.hard), self.chunk)
