"""One training loop for every model: schedule, mixed precision, accumulation, checkpoints, resuming, progress, several GPUs.

A model's own `train.py` says what is its own in a `Task`: data, loss, what is saved and what a checkpoint is judged by.
Under `torchrun` every process draws examples of its own and gradients are averaged; the first process alone prints and saves.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from app.errors import SearchbarError, SetupError
from training.beforehand import STATE
from training.run import Run, learning_rate, micro_batches

LOOK_EVERY = 10  # steps between looks at the loss: a look waits for the GPU


class Diverged(SearchbarError):
    """The loss is no longer a number; the last checkpoint is from before that."""


class Task(Protocol):
    """What is a model's own. A batch is whatever `stream` yields."""

    name: str
    network: torch.nn.Module  # what is trained

    def stream(self, seed: str, size: int) -> Iterator[Any]:
        """Endless micro-batches of `size` examples, drawn with `seed`."""

    def at(self, progress: float) -> None:
        """The run has come so far, 0–1: what is drawn may follow it."""

    def loss(self, network: Callable[..., Any], batch: Any, device: torch.device) -> torch.Tensor:
        """Mean loss of a micro-batch; `network` is `self.network`, compiled and distributed."""

    def weight(self, batch: Any) -> float:
        """How much the mean loss of `batch` counts in its step: of how many tokens or pairs it is the mean."""

    def save(self, out: Path, facts: dict[str, Any]) -> None:
        """Write weights and tokenizer to `out`, and `facts` to run.json."""

    def probe(self) -> str:
        """How good the model is now, in a few words."""


def read_state(out: Path) -> dict[str, Any] | None:
    """The state of an unfinished run in `out`, None where there is none. Raises SetupError when it cannot be read."""
    try:
        state: dict[str, Any] = torch.load(out / STATE, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        return None
    except Exception as exc:  # whatever unpickling meets
        raise SetupError(f"{out / STATE} cannot be read ({exc}): remove {out} to start anew") from exc
    return state


class Loop:
    """One run of `task`, from its start or from where `state` says, to its end."""

    def __init__(self, task: Task, run: Run, out: Path, made: Accelerator, state: dict[str, Any] | None) -> None:
        self.task, self.run, self.out, self.accelerator = task, run, out, made
        weights = task.network.parameters()
        optimizer = torch.optim.AdamW(weights, lr=run.lr, betas=(0.9, 0.98), weight_decay=run.weight_decay)
        self.network, self.optimizer = made.prepare(task.network, optimizer)
        self.forward = torch.compile(self.network, dynamic=True) if run.compile else self.network
        self.spent, self.step, self.seen = 0.0, 0, 0  # minutes, optimiser steps, examples of all processes
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.spent, self.step, self.seen = state["spent"], state["step"], state["seen"]
            if made.scaler is not None and state.get("scaler"):
                made.scaler.load_state_dict(state["scaler"])
        torch.manual_seed(run.seed + self.step)
        self.accumulation, size = micro_batches(run, made.num_processes)
        # A resumed run draws with another seed than before: the examples it has seen do not come again.
        self.stream = task.stream(f"{run.seed}/{self.seen}/{made.process_index}", size)
        self.losses: list[torch.Tensor] = []  # not looked at yet
        self.recent: list[float] = []  # since the last checkpoint
        shape = f"batch {run.batch_size} = {made.num_processes} process(es) × {self.accumulation} × {size}"
        made.print(f"{shape}, {made.mixed_precision} on {made.device}")

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0–1."""
        total = self.run.minutes if self.run.max_steps is None else self.run.max_steps
        done = self.spent if self.run.max_steps is None else self.step
        return min(1.0, done / total) if total > 0 else 1.0

    def train(self) -> None:
        """Train to the end of the schedule and save. Raises Diverged when the loss becomes infinite or not a number."""
        began, first = time.monotonic() - self.spent * 60, self.seen
        started = saved = time.monotonic()
        columns = (TextColumn(self.task.name), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
        with Progress(*columns, disable=not self.accelerator.is_main_process, transient=True) as bar:
            shown = bar.add_task("train", total=1.0, completed=self.progress, note="")
            while self.progress < 1:
                self._advance()
                self.spent = self._agreed(time.monotonic() - began) / 60
                if self.step % LOOK_EVERY == 0 or self.progress == 1:
                    rate = (self.seen - first) / (time.monotonic() - started)
                    bar.update(shown, completed=self.progress, note=f"{rate:,.0f} examples/s  loss {self._look():.3f}")
                if time.monotonic() - saved > self.run.checkpoint_minutes * 60 and self.progress < 1:
                    self._save()
                    saved = time.monotonic()
        self._save(done=True)
        self.accelerator.wait_for_everyone()

    def _advance(self) -> None:
        """One optimiser step. Each micro-batch counts by its weight, so that how the batch is cut changes nothing."""
        self.task.at(self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.run, self.progress)
        batches = [next(self.stream) for _ in range(self.accumulation)]
        weights = [self.task.weight(batch) for batch in batches]
        device, processes = self.accelerator.device, self.accelerator.num_processes
        # DDP averages over processes: a process that drew more tokens than the mean must count for more.
        total = torch.tensor(float(sum(weights)), device=device)
        total = self.accelerator.reduce(total, "mean") if processes > 1 else total
        whole = torch.zeros((), device=device)
        for at, (batch, weight) in enumerate(zip(batches, weights, strict=True), 1):
            with nullcontext() if at == len(batches) else self.accelerator.no_sync(self.network):
                with self.accelerator.autocast():
                    loss = self.task.loss(self.forward, batch, device) * (weight / total)
                self.accelerator.backward(loss)
            whole += loss.detach()
        self.accelerator.clip_grad_norm_(self.network.parameters(), self.run.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(whole)
        self.step, self.seen = self.step + 1, self.seen + self.run.batch_size

    def _agreed(self, elapsed_s: float) -> float:
        """The first process's clock, for a run by the clock must end in all of them after the same step."""
        if self.accelerator.num_processes == 1 or self.run.max_steps is not None:
            return elapsed_s
        mine = elapsed_s if self.accelerator.is_main_process else 0.0
        return float(self.accelerator.reduce(torch.tensor(mine, device=self.accelerator.device), "sum"))

    def _look(self) -> float:
        """The last loss, after a check of all that were not looked at yet."""
        values = torch.stack(self.losses).tolist() if self.losses else []
        for ago, value in enumerate(reversed(values)):
            if not math.isfinite(value):
                what = f"the loss became {value} at step {self.step - ago:,}"
                raise Diverged(f"{what}: lower --lr, or try --precision no. What {self.out} holds is from before")
        self.losses.clear()
        self.recent += values
        return self.recent[-1] if self.recent else math.nan

    def _save(self, done: bool = False) -> None:
        """A checkpoint, whole or not at all: each file is put in its place when it is complete, the state last."""
        if not self.accelerator.is_main_process:
            return
        self._look()
        facts = {**asdict(self.run), "steps": self.step, "examples": self.seen, "finished": done}
        with tempfile.TemporaryDirectory(dir=self.out, prefix=".saving-") as folder:
            self.task.save(Path(folder), facts)
            for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                target = self.out / file.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
            if not done:
                torch.save(self._state(), Path(folder) / STATE)
                os.replace(Path(folder) / STATE, self.out / STATE)
        if done:
            (self.out / STATE).unlink(missing_ok=True)
        mean = sum(self.recent) / max(len(self.recent), 1)
        self.recent.clear()
        judged = f"loss {mean:.3f}  {self.task.probe()}" if self.step else "random weights"
        line = f"{self.spent:6.1f} min  step {self.step:6,d}  examples {self.seen:9,d}  {judged}"
        print(f"{line}{'  done' if done else ''}", flush=True)

    def _state(self) -> dict[str, Any]:
        """What a run needs beside its weights to go on."""
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {}
        counts = {"spent": self.spent, "step": self.step, "seen": self.seen}
        return {"optimizer": self.optimizer.state_dict(), "scaler": scaler, **counts}
