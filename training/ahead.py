"""Batches drawn ahead by processes of their own: a GPU is faster than one process draws and tokenises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset

Batch = TypeVar("Batch")
MOST = 4  # processes, unless a run says how many


def ahead(batches: IterableDataset[Batch], workers: int | None) -> Iterator[Batch]:
    """The batches, in pinned memory where there is a GPU.

    Args:
        workers: processes that draw; None: up to `MOST` beside a GPU, none beside a CPU, which they would slow down.
    """
    if workers is None:
        workers = min(MOST, (os.cpu_count() or 1) - 1) if torch.cuda.is_available() else 0
    if not workers:
        return iter(batches)
    pinned = torch.cuda.is_available()
    return iter(DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=pinned, multiprocessing_context="fork"))
