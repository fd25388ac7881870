"""Train the embedder: a small BERT whose query and passage vectors meet.

    searchbar train embedder --catalogue demo.csv --catalogue charts.tsv --minutes 30 --out models/embedder

A sentence-transformers model (BERT, mean pooling, L2 normalisation) with in-batch negatives (InfoNCE, arXiv 1807.03748), both
directions; passages that also answer a query are masked out of its negatives (see `pairs.py`), and items that are easily taken
for each other are put into one batch (see `negatives.py`). The loss is the mean over the first 256, 128 and 64 numbers of the
embeddings, so that each of these can be used alone (Matryoshka representations, arXiv 2205.13147). Any saved
sentence-transformers directory continues through the same loop with `--init`. How a run is run is `training/loop.py`.

A batch larger than memory keeps all its negatives with `chunk`: activations are made again, a chunk at a time, on the way back,
which gives the gradient of gradient caching (arXiv 2101.06983) to the last digit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, models
from tokenizers import BertWordPieceTokenizer
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertModel, BertTokenizerFast
from transformers.utils.logging import disable_progress_bar

from app.errors import InvalidInput
from training.ahead import ahead
from training.embedder.batches import Batch, Batches, Piece
from training.embedder.export import load
from training.embedder.negatives import mine
from training.embedder.pairs import Pair, Pairs
from training.loop import Loop, read_state
from training.run import Run, accelerator
from training.shape import kept


@dataclass(slots=True)
class EmbedderRun(Run):
    """Hyper-parameters of a run; a step's queries each have the rest of its (micro-)batch as negatives."""

    minutes: float = 30.0
    lr: float = 8e-4
    warmup: float = 0.05
    temperature: float = 0.05
    vocab_size: int = 8192
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    ffn: int = 1024
    max_tokens: int = 40
    dimensions: tuple[int, ...] = (256, 192, 128, 64)  # Matryoshka; those longer than the model's embeddings are left out
    hard: float = 0.3  # share of a batch that another item of it is easily taken for; needs weights to start from
    every_playlist: bool = False  # titles that say nothing of their songs are learnt too
    chunk: int | None = None  # texts whose activations are kept; None: all of the (micro-)batch


def new_model(run: EmbedderRun, pairs: Pairs, out: Path) -> None:
    """Write a small BERT with random weights and a WordPiece vocabulary learnt from drawn pairs to `out`/start."""
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


def cut(model: SentenceTransformer, layers: int) -> None:
    """Keep so many layers of a BERT or RoBERTa. Raises InvalidInput when there are not so many, or it is neither."""
    network = model[0].auto_model
    if not hasattr(network, "encoder"):
        raise InvalidInput(f"--layers: no layers were found in a {type(network).__name__}")
    network.encoder.layer = kept(network.encoder.layer, layers)
    network.config.num_hidden_layers = layers


def started(run: EmbedderRun, out: Path) -> SentenceTransformer:
    """The model that `new_model` wrote to `out`, with mean pooling and normalisation."""
    word = models.Transformer(str(out / "start"), max_seq_length=run.max_tokens)
    return SentenceTransformer(modules=[word, models.Pooling(run.hidden, "mean"), models.Normalize()], device="cpu")


def contrast(queries: torch.Tensor, passages: torch.Tensor, right: torch.Tensor, run: EmbedderRun) -> torch.Tensor:
    """Symmetric InfoNCE over [n, dim] vectors, the mean over `run.dimensions`.

    Args:
        right: [n, n] bool, whether passage j answers query i: its own is wanted, the others are no negatives.
    """
    others = right & ~torch.eye(len(right), dtype=torch.bool, device=right.device)
    target = torch.arange(len(right), device=queries.device)
    cross, unit = torch.nn.functional.cross_entropy, torch.nn.functional.normalize
    losses = []
    for size in [d for d in run.dimensions if d < queries.shape[1]] + [queries.shape[1]]:
        scores = unit(queries[:, :size].float(), dim=-1) @ unit(passages[:, :size].float(), dim=-1).T / run.temperature
        scores = scores.masked_fill(others, float("-inf"))
        losses.append((cross(scores, target) + 0.3 * cross(scores.T, target)) / 1.3)
    return torch.stack(losses).mean()


def encode(model: Any, transformer: Any, pieces: list[Piece], device: torch.device, again: bool = False) -> torch.Tensor:
    """Vectors [n, dim] with gradients, in the batch's order: the transformer (maybe compiled) and the model's pooling.

    Args:
        again: make the activations of a piece again on the way back, instead of keeping those of all.
    """
    first_token = model[1].pooling_mode == "cls"

    def pooled(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        if first_token:
            return states[:, 0]
        weight = mask.unsqueeze(-1).to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1)

    parts = []
    for _, *tokens in pieces:
        ids, mask = (tensor.to(device, non_blocking=True) for tensor in tokens)
        parts.append(checkpoint(pooled, ids, mask, use_reentrant=False) if again and len(pieces) > 1 else pooled(ids, mask))
    order = torch.cat([piece.places for piece in pieces]).argsort()
    return torch.cat(parts)[order.to(device)]


def probe(model: SentenceTransformer, batch: list[Pair]) -> float:
    """Share of held-out pairs whose own passage (or one that answers as well) is nearest among all of the probe's."""
    q = model.encode([p.query for p in batch], convert_to_tensor=True, show_progress_bar=False)
    d = model.encode([p.passage for p in batch], convert_to_tensor=True, show_progress_bar=False)
    best = (q @ d.T).argmax(1).tolist()
    return sum(batch[i].constraint <= batch[j].facts for i, j in enumerate(best)) / len(batch)


class Embedding:
    """The embedder as a `training.loop.Task`."""

    name = "embedder"

    def __init__(self, model: SentenceTransformer, pairs: Pairs, run: EmbedderRun) -> None:
        self.model, self.pairs, self.run = model, pairs, run
        self.network = model[0].auto_model
        pairs.rng.seed(run.seed + 1_000_003)
        self.held_out = [pairs.draw() for _ in range(1000)]

    def stream(self, seed: str, size: int) -> Iterator[Batch]:
        return ahead(Batches(self.model, self.pairs, seed, size, self.run.hard, self.run.chunk), self.run.workers)

    def at(self, progress: float) -> None:
        """Nothing follows the progress."""

    def loss(self, network: Callable[..., Any], drawn: Batch, device: torch.device) -> torch.Tensor:
        again = self.run.chunk is not None
        queries, passages = (encode(self.model, network, of, device, again) for of in (drawn.queries, drawn.passages))
        with torch.autocast(device.type, enabled=False):  # scores at a temperature of 0.05 want all their digits
            return contrast(queries, passages, drawn.right(queries.device), self.run)

    def weight(self, drawn: Batch) -> float:
        return float(drawn.size)

    def save(self, out: Path, facts: dict[str, Any]) -> None:
        self.model.save(str(out / "model"))
        (out / "model" / "run.json").write_text(json.dumps(facts, indent=1) + "\n")

    def probe(self) -> str:
        return f"own passage nearest of 1000 {probe(self.model, self.held_out):.1%}"


def train(
    catalogues: list[Path],
    shares: list[float],
    playlists: Path | None,
    out: Path,
    run: EmbedderRun,
    init: Path | None = None,
    layers: int | None = None,
) -> None:
    """Train to the end of the run, checkpointing to `out`; an unfinished run in `out` is resumed.

    Args:
        layers: how many to keep of those of `init`; what is mined is mined with all of them.

    Raises:
        InvalidInput: `init` has fewer layers.
        SetupError: what `out` or `init` holds cannot be used, or this machine lacks the precision.
        Diverged: the loss became infinite or not a number.
    """
    made = accelerator(run)
    disable_progress_bar()  # there is one bar, the loop's
    torch.manual_seed(run.seed)
    out.mkdir(parents=True, exist_ok=True)
    state = read_state(out)
    pairs = Pairs(catalogues, shares, playlists, run.seed, run.every_playlist)
    source = out / "model" if state else init
    if source is None and made.is_main_process:
        new_model(run, pairs, out)
    made.wait_for_everyone()
    model = load(source) if source else started(run, out)
    mined = mine(model.to(made.device), pairs) if source is not None and run.hard > 0 else None
    if layers and init and not state:
        cut(model, layers)
    task = Embedding(model, pairs, run)
    task.network.float().set_attn_implementation("eager" if made.device.type == "cpu" else "sdpa")
    count = sum(map(len, pairs.groups))
    made.print(f"{count:,} items, {task.network.num_parameters() / 1e6:.1f} M parameters")
    if pairs.left_out:
        some = ", ".join(sorted(pairs.left_out)[:3])
        made.print(f"{len(pairs.left_out):,} playlist titles say nothing of their songs and are not learnt ({some}, …)")
    if mined is not None:
        made.print(f"{mined:,} of them are easily taken for others")
    Loop(task, run, out, made, state).train()
    made.end_training()
