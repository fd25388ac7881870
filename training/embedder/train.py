"""Train the embedder: a small BERT whose query and passage vectors meet.

    searchbar train embedder --catalogue demo.csv --catalogue charts.tsv --minutes 30 --out models/embedder

A sentence-transformers model (BERT, mean pooling, L2 normalisation) with in-batch negatives (InfoNCE, arXiv 1807.03748), both
directions; passages that also answer a query are masked out of its negatives (see `pairs.py`). Any saved sentence-transformers
directory continues through the same loop with `--init`.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from sentence_transformers import SentenceTransformer, models
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, BertTokenizerFast

from training.embedder.pairs import Pair, Pairs


@dataclass(slots=True)
class EmbedderRun:
    """Hyper-parameters of a run; saved beside the weights as `run.json`."""

    minutes: float = 30.0  # the schedule follows the clock
    batch_size: int = 256  # pairs a step; each query has batch_size - 1 negatives
    lr: float = 8e-4
    warmup: float = 0.05
    temperature: float = 0.05
    weight_decay: float = 0.01
    vocab_size: int = 8192
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    ffn: int = 1024
    max_tokens: int = 40
    seed: int = 13
    precision: str = "bf16"
    compile: bool = True
    checkpoint_minutes: float = 5.0


def new_model(run: EmbedderRun, pairs: Pairs, out: Path) -> SentenceTransformer:
    """A small BERT with random weights and a WordPiece vocabulary learnt from drawn pairs."""
    wordpiece = BertWordPieceTokenizer(strip_accents=False, lowercase=True)
    texts = (text for _ in range(120_000) for pair in (pairs.draw(),) for text in (pair.query, pair.passage))
    wordpiece.train_from_iterator(texts, vocab_size=run.vocab_size, show_progress=False)
    start = out / "start"
    start.mkdir(parents=True, exist_ok=True)
    wordpiece.save_model(str(start))
    tokenizer = BertTokenizerFast(vocab=str(start / "vocab.txt"), strip_accents=False, model_max_length=run.max_tokens)
    config = BertConfig(
        vocab_size=run.vocab_size, hidden_size=run.hidden, num_hidden_layers=run.layers, num_attention_heads=run.heads,
        intermediate_size=run.ffn, max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(start)
    tokenizer.save_pretrained(start)
    word = models.Transformer(str(start), max_seq_length=run.max_tokens)
    return SentenceTransformer(modules=[word, models.Pooling(run.hidden, "mean"), models.Normalize()], device="cpu")


def contrast(queries: torch.Tensor, passages: torch.Tensor, batch: list[Pair], temperature: float) -> torch.Tensor:
    """Symmetric InfoNCE over [n, dim] unit vectors, other right answers masked."""
    scores = queries.float() @ passages.float().T / temperature
    right = torch.tensor([[a.constraint <= b.facts for b in batch] for a in batch], device=scores.device)
    right.fill_diagonal_(False)
    scores = scores.masked_fill(right, float("-inf"))
    target = torch.arange(len(batch), device=scores.device)
    loss = torch.nn.functional.cross_entropy
    return (loss(scores, target) + 0.3 * loss(scores.T, target)) / 1.3


def encode(model: Any, transformer: Any, texts: list[str], device: torch.device) -> torch.Tensor:
    """Unit vectors [n, dim] with gradients: the transformer (maybe compiled), mean pooling, normalisation."""
    features = model.tokenize(texts)
    ids, mask = features["input_ids"].to(device), features["attention_mask"].to(device)
    states = transformer(input_ids=ids, attention_mask=mask).last_hidden_state
    weight = mask.unsqueeze(-1).to(states.dtype)
    return torch.nn.functional.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)


def probe(model: SentenceTransformer, batch: list[Pair]) -> float:
    """Share of held-out pairs whose own passage (or one that answers as well) is nearest among all of the probe's."""
    q = model.encode([p.query for p in batch], convert_to_tensor=True, show_progress_bar=False)
    d = model.encode([p.passage for p in batch], convert_to_tensor=True, show_progress_bar=False)
    best = (q @ d.T).argmax(1).tolist()
    return sum(batch[i].constraint <= batch[j].facts for i, j in enumerate(best)) / len(batch)


def train(
    catalogues: list[Path], shares: list[float], playlists: Path | None, out: Path, run: EmbedderRun, init: Path | None = None
) -> None:
    """Train until the clock says so, checkpointing to `out`; an unfinished run in `out` is resumed."""
    accelerator = Accelerator(mixed_precision=run.precision)
    torch.manual_seed(run.seed)
    out.mkdir(parents=True, exist_ok=True)
    state_file = out / "state.pt"
    state = torch.load(state_file, weights_only=True) if state_file.exists() else None
    pairs = Pairs(catalogues, shares, playlists, run.seed)
    source = out / "model" if state else init
    model = SentenceTransformer(str(source), device="cpu") if source else new_model(run, pairs, out)
    bert = model[0].auto_model
    bert.set_attn_implementation("eager")
    if accelerator.is_main_process:
        print(f"{sum(map(len, pairs.groups)):,} items, {bert.num_parameters() / 1e6:.1f} M parameters, {accelerator.device}")
    optimizer = torch.optim.AdamW(bert.parameters(), lr=run.lr, betas=(0.9, 0.98), weight_decay=run.weight_decay)
    transformer, optimizer = accelerator.prepare(bert, optimizer)
    spent, step = (state["spent"], state["step"]) if state else (0.0, 0)
    if state:
        optimizer.load_state_dict(state["optimizer"])
    forward = torch.compile(transformer, dynamic=True) if run.compile else transformer
    pairs.rng = random.Random(run.seed + 1_000_003)
    held_out = [pairs.draw() for _ in range(1000)]
    pairs.rng = random.Random(run.seed + 1 + step + 7919 * accelerator.process_index)
    started, saved, losses = time.monotonic() - spent * 60, time.monotonic(), []

    def save() -> None:
        if not accelerator.is_main_process:
            return
        model.save(str(out / "model"))
        (out / "model" / "run.json").write_text(json.dumps({**asdict(run), "steps": step}, indent=1) + "\n")
        torch.save({"optimizer": optimizer.state_dict(), "spent": spent, "step": step}, state_file)
        mean = sum(losses) / max(len(losses), 1)
        nearest = probe(model, held_out)
        print(f"{spent:6.1f} min  step {step:6d}  loss {mean:.3f}  own passage nearest of 1000 {nearest:.1%}", flush=True)
        losses.clear()

    columns = (TextColumn("embedder"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, disable=not accelerator.is_main_process, transient=True) as progress:
        task = progress.add_task("train", total=run.minutes, rate="")
        while spent < run.minutes:
            done = spent / run.minutes
            lr = run.lr * (done / run.warmup if done < run.warmup else (1 - done) / (1 - run.warmup))
            for group in optimizer.param_groups:
                group["lr"] = max(lr, 1e-6)
            batch = [pairs.draw() for _ in range(run.batch_size)]
            with accelerator.autocast():
                queries = encode(model, forward, [p.query for p in batch], accelerator.device)
                passages = encode(model, forward, [p.passage for p in batch], accelerator.device)
            loss = contrast(queries, passages, batch, run.temperature)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(transformer.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            step += 1
            spent = (time.monotonic() - started) / 60
            progress.update(task, completed=spent, rate=f"step {step}  loss {losses[-1]:.3f}")
            if time.monotonic() - saved > run.checkpoint_minutes * 60:
                save()
                saved = time.monotonic()
    save()
    state_file.unlink(missing_ok=True)
