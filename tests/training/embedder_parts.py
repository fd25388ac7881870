"""Run in the training environment: prints one JSON object a check, which test_train_embedder.py judges."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sentence_transformers import SentenceTransformer, models
from transformers import AutoModel, AutoTokenizer, BertConfig, DistilBertConfig, MPNetConfig, RobertaConfig

from app.settings import ROOT
from training.ahead import ahead
from training.embedder.batches import Batches, collate
from training.embedder.export import export_fp32
from training.embedder.negatives import batch, mine
from training.embedder.pairs import Pair, Pairs, held_out
from training.embedder.train import EmbedderRun, contrast, encode
from training.quantise import quantise
from training.shape import kept

TOKENIZER = ROOT / "training" / "checkpoints" / "embedder"
DEMO = ROOT / "app" / "data" / "demo.csv"
SHAPES = {
    "bert, first token": (
        BertConfig(vocab_size=8192, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128),
        "cls",
    ),
    "roberta": (
        RobertaConfig(vocab_size=8192, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128),
        "mean",
    ),
    "distilbert": (DistilBertConfig(vocab_size=8192, n_layers=2, n_heads=4, dim=64, hidden_dim=128), "mean"),
    "mpnet": (
        MPNetConfig(vocab_size=8192, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128),
        "mean",
    ),
}
TEXTS = ["halo by beyonce. pop, r&b. epic. 2000s", "sad songs", "a b c d e f g h i j k"]


def say(check: str, **found: object) -> None:
    print(json.dumps({"check": check, **found}), flush=True)


def right(pairs: list[Pair]) -> torch.Tensor:
    """[n, n] bool: which passage answers which query, a pair at a time."""
    return torch.tensor([[a.constraint <= b.facts for b in pairs] for a in pairs])


def masked_answers() -> None:
    """The loss of a batch in which another passage answers a query too, far from it and close to it."""
    facts = frozenset({"m:sad"})
    pairs = [Pair("sad", "a", facts, facts), Pair("sad too", "b", frozenset({"t:b"}), facts | {"t:b"})]
    query = torch.eye(2)
    near, far = torch.tensor([[1.0, 0.0], [0.999, 0.04]]), torch.tensor([[1.0, 0.0], [-0.999, 0.04]])
    run = EmbedderRun(dimensions=())
    only_first = [pairs[0], Pair("x", "b", frozenset({"t:x"}), frozenset({"t:x"}))]
    say("masked", near=_first(query, near, pairs, run), far=_first(query, far, pairs, run))
    say("unmasked", near=_first(query, near, only_first, run), far=_first(query, far, only_first, run))


def _first(query: torch.Tensor, passages: torch.Tensor, pairs: list[Pair], run: EmbedderRun) -> float:
    query = query.clone().requires_grad_()
    contrast(query, passages, right(pairs), run).backward()
    assert query.grad is not None
    return float(query.grad[0].abs().sum())


def matryoshka() -> None:
    """The loss where the first half of the numbers points to the wrong passage and the whole to the right one."""
    pairs = [Pair(q, q, frozenset({q}), frozenset({q})) for q in "ab"]
    query = torch.tensor([[0.3, 0.0, 1.0, 0.0], [0.0, 0.3, 0.0, 1.0]])
    passages = torch.tensor([[0.0, 0.3, 1.0, 0.0], [0.3, 0.0, 0.0, 1.0]])
    losses = {str(d): float(contrast(query, passages, right(pairs), EmbedderRun(dimensions=d))) for d in ((), (2,))}
    say("matryoshka", whole=losses["()"], halves=losses["(2,)"])


def chunks(model: SentenceTransformer) -> None:
    """The largest difference of a gradient between all texts at once and three at a time, relative to the largest gradient."""
    pairs = Pairs([DEMO], [1.0], None, 7)
    drawn = batch(pairs, 10, 0.0)
    found = []
    for chunk in (None, 3):
        model.zero_grad()
        made = collate(model, drawn, chunk)
        queries, passages = (
            encode(model, model[0].auto_model, of, torch.device("cpu"), chunk is not None)
            for of in (made.queries, made.passages)
        )
        contrast(queries, passages, right(drawn), EmbedderRun()).backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    say("chunks", difference=float((found[0] - found[1]).abs().max() / found[0].abs().max()))


def drawn_batches(model: SentenceTransformer) -> None:
    """Whether a batch says which passages answer a query as its pairs do, and whether processes that draw ahead draw anew."""
    pairs = Pairs([DEMO], [1.0], None, 7)
    drawn = batch(pairs, 200, 0.0)
    said = collate(model, drawn).right(torch.device("cpu"))
    stream = ahead(Batches(model, pairs, "seed", 8, 0.0, None), 2)
    first, second = (next(stream).passages[0].ids for _ in range(2))
    say("batches", same=bool((said == right(drawn)).all()), others=int(said.sum()) - len(drawn), again=first.equal(second))


def layers() -> None:
    """Which of six layers stay, by how many."""
    say("layers", kept=[[layer.num_embeddings - 1 for layer in kept(_six(), count)] for count in (1, 2, 3, 6)])


def _six() -> torch.nn.ModuleList:
    return torch.nn.ModuleList(torch.nn.Embedding(at + 1, 1) for at in range(6))


def hard_negatives(model: SentenceTransformer) -> None:
    """How many entries have items they are taken for, whether one bears the same title, and their share of a batch."""
    pairs = Pairs([DEMO], [1.0], None, 7)
    pairs.groups[0] = pairs.groups[0][:300]
    pairs.cumulative[0] = [float(i + 1) for i in range(300)]
    mined = mine(model, pairs)
    same = sum(n.item.title.lower() == e.item.title.lower() for e in pairs.groups[0] for n in e.near)
    near = {n.passage: {e.passage for e in pairs.groups[0] if n in e.near} for e in pairs.groups[0] for n in e.near}
    drawn = [p.passage for p in batch(pairs, 2000, 0.3)]
    follows = sum(a in near.get(b, ()) for a, b in pairwise(drawn))
    easy = [p.passage for p in batch(pairs, 2000, 0.0)]
    chance = sum(a in near.get(b, ()) for a, b in pairwise(easy))
    say("hard", mined=mined, same=same, share=follows / 2000, chance=chance / 2000)


def playlists(folder: Path) -> None:
    """How many of the drawn titles are kept for evaluation or are mere names, and how many of all titles are kept."""
    titles = [f"{a} {b} mix" for a in ("mellow", "summer", "rainy", "garage", "jazz") for b in range(12)]
    mute = [f"lorem {b}" for b in range(12)]
    rows = "".join(f"{title}\t\tAdele\tHello\n" for title in (*titles, *mute))
    (folder / "playlists.tsv").write_text("playlist\tdescription\tartist\ttitle\n" + rows)
    (folder / "one.csv").write_text("title,artist\nHello,Adele\n")
    pairs = Pairs([folder / "one.csv"], [1.0], folder / "playlists.tsv", 7)
    drawn = {p.query for p in (pairs.draw() for _ in range(3000))}
    kept = [title for title in titles if held_out(title)]
    every = Pairs([folder / "one.csv"], [1.0], folder / "playlists.tsv", 7, every_playlist=True)
    by_heart = {p.query for p in (every.draw() for _ in range(3000))} & set(mute)
    assert not every.left_out
    say("names", left_out=sorted(pairs.left_out), by_heart=sorted(by_heart), unkept=sorted(t for t in mute if not held_out(t)))
    say("playlists", kept=len(kept), drawn=len(drawn & set(titles)), both=len(drawn & {*kept, *mute}))


def exports(folder: Path) -> None:
    """The least cosine between what sentence-transformers and ONNX Runtime compute, fp32 and int8, for each family."""
    for name, (config, pooling) in SHAPES.items():
        torch.manual_seed(7)
        start = folder / name.replace(" ", "")
        AutoModel.from_config(config).save_pretrained(start / "w")
        AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(start / "w")
        word = models.Transformer(str(start / "w"))
        made = SentenceTransformer(modules=[word, models.Pooling(64, pooling)], device="cpu")
        made.save(str(start / "st"))
        graph, dimensions = export_fp32(start / "st", start / "onnx")
        quantise(graph, start / "int8.onnx")
        features = made[0].preprocess(TEXTS)
        inputs = {key: features[key].numpy() for key in ("input_ids", "attention_mask")}
        wanted = made.encode(TEXTS, normalize_embeddings=True)
        cosines = [float(np.min((_run(path, inputs) * wanted).sum(1))) for path in (graph, start / "int8.onnx")]
        say("export", family=name, dimensions=dimensions, fp32=cosines[0], int8=cosines[1])


def _run(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(onnxruntime.InferenceSession(str(path)).run(None, inputs)[0])


if __name__ == "__main__":
    work = Path(sys.argv[1])
    shipped = SentenceTransformer(str(TOKENIZER), device="cpu")
    masked_answers()
    matryoshka()
    chunks(shipped)
    drawn_batches(shipped)
    layers()
    hard_negatives(shipped)
    playlists(work)
    exports(work)
