"""Train the speller: a BART-family encoder–decoder that rewrites a mistyped name as the name.

    searchbar train speller --catalogue demo.csv --catalogue charts.tsv --minutes 60 --out models/speller

The network is `MBartForConditionalGeneration`, the pre-norm member of the family: post-norm BART of this size had not
learnt to copy after 260 000 examples, pre-norm copies within 24 000 (training/LOG.md). Any saved BART or MBART directory
continues through the same loop with `--init`.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import AutoModelForSeq2SeqLM, MBartConfig, MBartForConditionalGeneration, PreTrainedTokenizerFast

from training import corpus as corpus_
from training.noise import corrupt
from training.speller.tokenizer import train_tokenizer

BOS, PAD, EOS, UNK = 0, 1, 2, 3


@dataclass(slots=True)
class SpellerRun:
    """Hyper-parameters of a run; saved beside the weights as `run.json`."""

    minutes: float = 60.0  # the schedule follows the clock, so that a run always ends with its learning rate at zero
    batch_size: int = 128  # examples a step
    lr: float = 1e-3
    warmup: float = 0.02  # share of the run
    copy_phase: float = 0.10  # share of the run that copies clean queries only: copying must be learnt before correcting
    clean_share: float = 0.25  # of the examples after the copy phase: correct queries must stay
    weight_decay: float = 0.01
    clip: float = 1.0
    vocab_size: int = 4096
    d_model: int = 256
    encoder_layers: int = 4
    decoder_layers: int = 2
    ffn: int = 1024
    heads: int = 4
    holdout: float = 0.02  # share of titles never trained on
    seed: int = 13
    precision: str = "bf16"  # AMP; "no" for fp32
    compile: bool = True  # 1.3 times the examples a second on two CPU cores
    checkpoint_minutes: float = 5.0


def build_model(run: SpellerRun) -> MBartForConditionalGeneration:
    """A small MBART with random weights; embeddings scaled by sqrt(d_model), decoder starts from `</s>` like BART."""
    config = MBartConfig(
        vocab_size=run.vocab_size, d_model=run.d_model, encoder_layers=run.encoder_layers,
        decoder_layers=run.decoder_layers, encoder_ffn_dim=run.ffn, decoder_ffn_dim=run.ffn,
        encoder_attention_heads=run.heads, decoder_attention_heads=run.heads, max_position_embeddings=128,
        dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, scale_embedding=True, tie_word_embeddings=True,
        bos_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=EOS, forced_eos_token_id=None,
        init_std=0.02,
    )  # fmt: skip
    return MBartForConditionalGeneration(config)


class Batches:
    """Endless batches of (typed, meant) token ids, grouped by length; deterministic in (seed, examples drawn)."""

    POOL = 32  # batches sorted together by length

    def __init__(self, corpus: corpus_.Corpus, tokenizer: PreTrainedTokenizerFast, run: SpellerRun, seed: int) -> None:
        self.corpus, self.tokenizer, self.run = corpus, tokenizer, run
        self.rng = random.Random(seed)
        self.progress = 0.0  # share of the run done, set by the loop

    def example(self) -> tuple[str, str]:
        meant = corpus_.query_for(self.corpus.draw(self.rng), self.rng)
        if self.progress < self.run.copy_phase or self.rng.random() < self.run.clean_share:
            return meant, meant
        return corrupt(meant, self.rng), meant

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            pool = [self.example() for _ in range(self.POOL * self.run.batch_size)]
            pool.sort(key=lambda pair: len(pair[0]))
            starts = list(range(0, len(pool), self.run.batch_size))
            self.rng.shuffle(starts)
            for start in starts:
                typed, meant = zip(*pool[start : start + self.run.batch_size], strict=True)
                yield collate(self.tokenizer, list(typed), list(meant))


def collate(tokenizer: PreTrainedTokenizerFast, typed: list[str], meant: list[str]) -> dict[str, torch.Tensor]:
    """Padded `input_ids`, `attention_mask` and `labels` [batch, tokens] int64; padding in labels is -100."""
    source = tokenizer(typed, padding=True, truncation=True, max_length=64, return_tensors="pt")
    labels = tokenizer(meant, padding=True, truncation=True, max_length=64, return_tensors="pt")["input_ids"]
    labels[labels == PAD] = -100
    return {"input_ids": source["input_ids"], "attention_mask": source["attention_mask"], "labels": labels}


@torch.no_grad()
def exact(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]) -> float:
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


def train(catalogues: list[Path], shares: list[float], out: Path, run: SpellerRun, init: Path | None = None) -> None:
    """Train until the clock says so, checkpointing to `out`; an unfinished run in `out` is resumed."""
    accelerator = Accelerator(mixed_precision=run.precision)
    torch.manual_seed(run.seed)
    corpus = corpus_.load(catalogues, shares, run.holdout)
    out.mkdir(parents=True, exist_ok=True)
    state_file = out / "state.pt"
    state = torch.load(state_file, weights_only=True) if state_file.exists() else None
    source = out if state else init
    if source:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
        model = AutoModelForSeq2SeqLM.from_pretrained(source)
    else:
        bpe = train_tokenizer(corpus, run.vocab_size)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bpe, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
        )
        model = build_model(run)
    if accelerator.is_main_process:
        print(f"{len(corpus.entries):,} names, {model.num_parameters() / 1e6:.1f} M parameters, {accelerator.device}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.lr, betas=(0.9, 0.98), weight_decay=run.weight_decay)
    model.train()
    model.set_attn_implementation("eager")  # on a CPU the fused attention's backward took 38 % of a step at 12 tokens
    model, optimizer = accelerator.prepare(model, optimizer)
    forward = torch.compile(model, dynamic=True) if run.compile else model
    spent, step, seen = 0.0, 0, 0
    if state:
        optimizer.load_state_dict(state["optimizer"])
        spent, step, seen = state["spent"], state["step"], state["seen"]
    clean, typos = probe_set(corpus, 256, seed=run.seed + 1_000_003)
    batches = Batches(corpus, tokenizer, run, seed=run.seed + seen + 7919 * accelerator.process_index)
    stream = iter(batches)
    started, saved, losses = time.monotonic() - spent * 60, time.monotonic(), []

    def save(done: bool) -> None:
        if not accelerator.is_main_process:
            return
        unwrapped = accelerator.unwrap_model(model)
        unwrapped.save_pretrained(out)
        tokenizer.save_pretrained(out)
        (out / "run.json").write_text(json.dumps({**asdict(run), "steps": step, "examples": seen}, indent=1) + "\n")
        torch.save({"optimizer": optimizer.state_dict(), "spent": spent, "step": step, "seen": seen}, state_file)
        right, fixed = exact(unwrapped, tokenizer, clean), exact(unwrapped, tokenizer, typos)
        line = f"{spent:6.1f} min  step {step:6d}  examples {seen:9,d}  loss {sum(losses) / max(len(losses), 1):.3f}"
        print(f"{line}  clean copied {right:.1%}  typos corrected {fixed:.1%}{'  done' if done else ''}", flush=True)
        losses.clear()

    columns = (TextColumn("speller"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, disable=not accelerator.is_main_process, transient=True) as progress:
        task = progress.add_task("train", total=run.minutes, rate="")
        while spent < run.minutes:
            done = spent / run.minutes
            batches.progress = done
            lr = run.lr * (min(1.0, done / run.warmup) if done < run.warmup else (1 - done) / (1 - run.warmup))
            for group in optimizer.param_groups:
                group["lr"] = max(lr, 1e-6)
            batch = {k: v.to(accelerator.device) for k, v in next(stream).items()}
            with accelerator.autocast():
                loss = forward(**batch).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), run.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if not math.isfinite(value := loss.item()):
                raise FloatingPointError(f"loss became {value} at step {step}")
            losses.append(value)
            step, seen = step + 1, seen + len(batch["input_ids"]) * accelerator.num_processes
            spent = (time.monotonic() - started) / 60
            progress.update(task, completed=spent, rate=f"{seen / (spent * 60 + 1e-9):,.0f} examples/s loss {value:.3f}")
            if time.monotonic() - saved > run.checkpoint_minutes * 60:
                save(done=False)
                saved = time.monotonic()
    save(done=True)
    state_file.unlink(missing_ok=True)
