"""What the speller learns from: drawn names, some mistyped, in batches grouped by length; and how far it has come."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from training import corpus as corpus_
from training.noise import corrupt
from training.speller.tokenizer import BOS, EOS, PAD, UNK

if TYPE_CHECKING:
    from training.speller.train import SpellerRun

MAX_TOKENS = 64
EDITS, EDIT_SHARES = (1, 2, 3), (0.68, 0.26, 0.06)  # harder than what people type (noise.json): easy examples teach little
Batch = dict[str, torch.Tensor]

__all__ = ["BOS", "EOS", "PAD", "UNK", "Batch", "Batches", "collate", "exact", "probe_set"]


class Batches(IterableDataset[Batch]):
    """Endless batches of (typed, meant) token ids, grouped by length; deterministic in the seed.

    `size` examples each, `run.batch_size` unless given.
    """

    POOL = 32  # steps sorted together by length

    def __init__(
        self, corpus: corpus_.Corpus, tokenizer: Any, run: SpellerRun, seed: int | str, size: int | None = None
    ) -> None:
        self.corpus, self.tokenizer, self.run = corpus, tokenizer, run
        self.size = size or run.batch_size
        self.seed = seed
        self.rng = random.Random(seed)
        self._progress = multiprocessing.Value("d", 0.0, lock=False)  # read by the processes that draw

    @property
    def progress(self) -> float:
        """Share of the run done, 0–1, set by the loop."""
        return float(self._progress.value)

    @progress.setter
    def progress(self, value: float) -> None:
        self._progress.value = value

    def example(self) -> tuple[str, str]:
        meant = corpus_.query_for(self.corpus.draw(self.rng), self.rng)
        if self.progress < self.run.copy_phase or self.rng.random() < self.run.clean_share:
            return meant, meant
        return corrupt(meant, self.rng, self.rng.choices(EDITS, EDIT_SHARES)[0]), meant

    def __iter__(self) -> Iterator[Batch]:
        if worker := get_worker_info():
            self.rng = random.Random(f"{self.seed}/{worker.id}")
        while True:
            pool = [self.example() for _ in range(self.POOL * self.run.batch_size)]
            pool.sort(key=lambda pair: len(pair[0]))
            starts = list(range(0, len(pool) - self.size + 1, self.size))
            self.rng.shuffle(starts)
            for start in starts:
                typed, meant = zip(*pool[start : start + self.size], strict=True)
                yield collate(self.tokenizer, list(typed), list(meant))


def collate(tokenizer: Any, typed: list[str], meant: list[str]) -> Batch:
    """Padded `input_ids`, `attention_mask` and `labels` [batch, tokens] int64; padding in labels is -100."""
    source = tokenizer(typed, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    labels = tokenizer(meant, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")["input_ids"]
    labels[labels == PAD] = -100
    return {"input_ids": source["input_ids"], "attention_mask": source["attention_mask"], "labels": labels}


@torch.no_grad()
def exact(model: Any, tokenizer: Any, pairs: list[tuple[str, str]]) -> float:
    """Share of `pairs` (typed, meant) that plain greedy decoding answers exactly."""
    model.eval()
    right = 0
    for start in range(0, len(pairs), 64):
        typed, meant = zip(*pairs[start : start + 64], strict=True)
        batch = tokenizer(list(typed), padding=True, return_tensors="pt").to(model.device)
        ids = model.generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=1, max_new_tokens=48
        )
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        right += sum(text.strip() == m for text, m in zip(texts, meant, strict=True))
    model.train()
    return right / len(pairs)


def probe_set(corpus: corpus_.Corpus, size: int, seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(clean, typo) pairs to watch a run by; their typos come from a generator training never uses."""
    rng = random.Random(seed)
    meant = [corpus_.query_for(corpus.draw(rng), rng) for _ in range(size)]
    return [(m, m) for m in meant], [(corrupt(m, rng), m) for m in meant]
