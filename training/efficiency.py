"""How fast the speller trains: the same model and the same examples under rising batch sizes and precisions.

    searchbar train report --catalogue demo.csv

Each setting of `LADDER` runs in a process of its own, so that neither memory nor compiled code carries over from one to the
next. The clock covers training steps alone: the data lies ready (in pinned memory where there is a GPU), warm-up and
compilation are over, and the weights are back at their start, so that all settings see the same examples once.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from app.errors import SetupError
from training import corpus as corpus_
from training.speller.tokenizer import train_tokenizer
from training.speller.train import PAD, Batches, SpellerRun, build_model, preset
from training.utilisation import Sampler, probe

Row = tuple[torch.Tensor, torch.Tensor]  # (typed, meant) token ids [tokens] int64, unpadded
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a training step."""

    amp: bool  # automatic mixed precision; otherwise fp32, on a GPU without TF32
    batch_size: int  # examples a step
    compiled: bool = False

    @property
    def label(self) -> str:
        return f"{'AMP' if self.amp else 'FP32'} · batch {self.batch_size}{' · compiled' if self.compiled else ''}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one setting did with the examples; warm-up is not in `wall_s`."""

    steps: int
    examples: int
    wall_s: float
    utilisation: float  # 0–1, mean over the run: of the GPU, or of all CPU cores by this process
    peak_memory_mb: float  # allocated on the GPU, or resident in this process, libraries included
    loss: float  # mean over the last tenth of the steps
    warm_up_s: float  # with compilation
    others: float  # CPU cores that other processes kept busy meanwhile: these figures want an idle machine

    @property
    def examples_per_s(self) -> float:
        return self.examples / self.wall_s


LADDER = (
    Setting(amp=False, batch_size=32),  # the baseline
    Setting(amp=False, batch_size=256),
    Setting(amp=True, batch_size=32),
    Setting(amp=True, batch_size=64),
    Setting(amp=True, batch_size=128),
    Setting(amp=True, batch_size=256),
    Setting(amp=True, batch_size=256, compiled=True),
)
QUICK = (Setting(amp=False, batch_size=32), Setting(amp=True, batch_size=64))


def speller_run(config: str) -> SpellerRun:
    """The speller as `--config` trains it, past the phase in which it copies clean queries only."""
    return preset(config, batch_size=LADDER[0].batch_size, copy_phase=0.0)


def amp_dtype(device: torch.device) -> torch.dtype:
    """bf16 on a CPU and on GPUs with bf16 units, fp16 on older ones."""
    native = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def prepare(catalogue: Path, run: SpellerRun, examples: int) -> list[Row]:
    """`examples` seeded training examples of `catalogue`, in the tokens of a tokenizer trained on its names.

    Raises:
        InvalidInput: the catalogue cannot be read or has no usable row.
    """
    corpus = corpus_.load([catalogue])
    bpe = train_tokenizer(corpus, run.vocab_size, samples=min(100_000, 10 * len(corpus.entries)))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
    )  # fmt: skip
    rows: list[Row] = []
    for batch in Batches(corpus, tokenizer, run, seed=run.seed):
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            rows.append((ids[mask.bool()].clone(), labels[labels >= 0].clone()))
        if len(rows) >= examples:
            break
    return rows[:examples]


def batched(rows: list[Row], batch_size: int, seed: int, pin: bool) -> list[Batch]:
    """The rows as padded batches, grouped by length and shuffled; the same rows whatever the batch size."""
    ordered = sorted(rows, key=lambda row: (len(row[0]), len(row[1])))
    batches = [collate(ordered[start : start + batch_size]) for start in range(0, len(ordered), batch_size)]
    random.Random(seed).shuffle(batches)
    return [{name: t.pin_memory() for name, t in batch.items()} for batch in batches] if pin else batches


def collate(rows: list[Row]) -> Batch:
    """`input_ids`, `attention_mask` and `labels` [batch, tokens] int64; padding in labels is -100."""
    typed, meant = ([row[side] for row in rows] for side in (0, 1))
    ids = pad_sequence(typed, batch_first=True, padding_value=PAD)
    labels = pad_sequence(meant, batch_first=True, padding_value=-100)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": labels}


class Trainee:
    """The speller with random weights and all that one training step under `setting` needs."""

    def __init__(self, setting: Setting, run: SpellerRun, device: torch.device) -> None:
        torch.manual_seed(run.seed)
        self.run, self.device, self.amp, self.dtype = run, device, setting.amp, amp_dtype(device)
        self.model = build_model(run).to(device).train()
        # A CPU loses more to the fused attention's backward than it gains at 12 tokens (training/LOG.md).
        self.model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
        self.start = {name: tensor.to("cpu", copy=True) for name, tensor in self.model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=run.lr, betas=(0.9, 0.98), weight_decay=run.weight_decay, fused=device.type == "cuda"
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=setting.amp and self.dtype == torch.float16)
        self.forward = torch.compile(self.model, dynamic=True) if setting.compiled else self.model

    def step(self, batch: Batch) -> torch.Tensor:
        """One optimizer step; its loss stays on the device, so that nothing waits for it."""
        on_device = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.amp):
            loss: torch.Tensor = self.forward(**on_device).loss
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.run.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def warm_up(self, batches: list[Batch]) -> float:
        """One step for each shape among `batches`, then back to the first weights; the seconds it took."""
        started = time.perf_counter()
        shapes = {(batch["input_ids"].shape, batch["labels"].shape): batch for batch in batches}
        for batch in shapes.values():
            self.step(batch)
        self.wait()
        self.model.load_state_dict(self.start)
        self.optimizer.state.clear()
        return time.perf_counter() - started

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure(setting: Setting, config: str, rows: list[Row]) -> Measurement:
    """Train the speller of `config` once over `rows` in this process.

    Raises:
        FloatingPointError: the loss is no longer a number.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = speller_run(config)
    trainee = Trainee(setting, run, device)
    batches = batched(rows, setting.batch_size, run.seed, pin=device.type == "cuda")
    warm_up_s = trainee.warm_up(batches)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with Sampler(probe(device)) as sampler:
        started = time.perf_counter()
        losses = [trainee.step(batch) for batch in batches]
        trainee.wait()
        wall_s = time.perf_counter() - started
    last = torch.stack(losses[-max(1, len(losses) // 10) :]).float().mean().item()
    if not math.isfinite(last):
        raise FloatingPointError(f"{setting.label}: the loss became {last}")
    peak_mb = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else sampler.peak_mb
    return Measurement(len(batches), len(rows), wall_s, sampler.utilisation, peak_mb, last, warm_up_s, sampler.others)


def measure_apart(setting: Setting, config: str, data: Path) -> Measurement:
    """`measure` in a fresh process over the rows saved in `data`, compiling anew.

    Raises:
        SetupError: the process failed; the message ends with its last line.
    """
    folder = Path(mkdtemp(dir=data.parent))
    result = folder / "result.json"
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton")}
    command = [sys.executable, "-m", "training.efficiency", json.dumps(asdict(setting)), config, str(data), str(result)]
    # Its own folder as working directory: in the repository's, `triton/` would shadow the package PyTorch imports.
    done = subprocess.run(command, cwd=folder, env=os.environ | caches, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise SetupError(f"{setting.label} did not run: {reason}")
    return Measurement(**json.loads(result.read_text()))


if __name__ == "__main__":
    chosen, shape, saved, target = sys.argv[1:]
    measured = measure(Setting(**json.loads(chosen)), shape, torch.load(saved, weights_only=True))
    Path(target).write_text(json.dumps(asdict(measured)))
