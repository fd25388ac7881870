"""What a training run is told: length, batch, schedule, precision, and the processes that share it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator

from app.errors import InvalidInput, SetupError


@dataclass(slots=True)
class Run:
    """What every run is told; saved beside the weights as `run.json`."""

    minutes: float = 60.0  # length of the run, unless `max_steps` says it in optimiser steps
    max_steps: int | None = None
    batch_size: int = 256  # examples an optimiser step learns from, over all processes and micro-batches
    micro_batch: int | None = None  # examples a process puts through the network at once; None: all of its share
    lr: float = 1e-3  # at its peak
    warmup: float = 0.02  # share of the run
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 13
    precision: str = "auto"  # bf16, fp16, no, or what this machine is best at
    compile: bool = True  # 1.3 times the examples a second on two CPU cores
    checkpoint_minutes: float = 5.0
    workers: int | None = None  # processes that draw ahead (`training.ahead`)


def accelerator(run: Run) -> Accelerator:
    """The devices and processes of this run.

    Raises:
        SetupError: this machine cannot train in the precision asked for.
        InvalidInput: the processes cannot share the batch evenly.
    """
    gpu = torch.cuda.is_available()
    if run.precision == "fp16" and not gpu:
        raise SetupError("fp16 needs a GPU: use --precision bf16, no or auto")
    native = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else True
    precision = {"auto": "bf16" if native else "fp16"}.get(run.precision, run.precision)
    made = Accelerator(mixed_precision=precision, cpu=not gpu)  # told that it is a CPU, it also joins processes on one
    if run.batch_size % made.num_processes:
        raise InvalidInput(f"{made.num_processes} processes cannot share a batch of {run.batch_size}: change --batch-size")
    return made


def learning_rate(run: Run, progress: float) -> float:
    """Linear from 0 to `run.lr` over the warm-up, then linear to 0 at the end; never quite 0."""
    factor = progress / run.warmup if progress < run.warmup else (1 - progress) / (1 - run.warmup)
    return max(run.lr * min(1.0, factor), 1e-6)


def micro_batches(run: Run, processes: int) -> tuple[int, int]:
    """(how many micro-batches a process puts through in a step, how large they are): at most `run.micro_batch` each."""
    share = run.batch_size // processes
    size = next(n for n in range(min(run.micro_batch or share, share), 0, -1) if share % n == 0)
    return share // size, size
