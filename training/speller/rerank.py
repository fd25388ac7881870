"""Fit the reranker: which of a query's scored readings was meant.

    searchbar train reranker --catalogue app/data/demo.csv --catalogue charts.tsv

Queries are drawn from the catalogues and from text that is in none, some misspelt by `training/noise.py`; a fifth of the names
is kept out of the lexicon, so that the network learns what an unknown name looks like. The target is the right reading where
it is among the candidates, and the query itself where it is not: what cannot be corrected is left alone.
"""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from app.lexicon import Lexicon
from app.reranker import FEATURES, features
from app.speller import MAX_CANDIDATES, Policy, Question, Speller
from app.text import fold
from training import corpus as corpus_
from training.embedder.pairs import read_items
from training.local import LocalBackend
from training.noise import corrupt

HIDDEN = 32
BATCH = 32


class Drawn:
    """Queries with what was meant, over one catalogue whose lexicon lacks a fifth of its names."""

    def __init__(self, catalogue: Path, others: list[str], seed: int) -> None:
        self.rng = random.Random(seed)
        items = read_items(catalogue)
        self.lexicon = Lexicon([item for item in items if not corpus_.held_out(fold(item.title), 0.2)])
        self.corpus = corpus_.load([catalogue])
        self.others = others

    def draw(self) -> tuple[str, str]:
        """(typed, meant), both folded. Names that are typed exactly never reach the reranker and are not drawn."""
        while True:
            meant = corpus_.query_for(self.corpus.draw(self.rng), self.rng)
            kind = self.rng.random()
            if kind < 0.15:
                meant = self.rng.choice(self.others)
                return (meant, meant) if kind < 0.12 else (corrupt(meant, self.rng), meant)
            if kind < 0.30 and " " in meant:  # a part of a name
                words = meant.split()
                cut = self.rng.randint(1, len(words) - 1)
                meant = " ".join(words[:cut] if self.rng.random() < 0.7 else words[cut:])
            typed = meant if kind < 0.42 else corrupt(meant, self.rng)
            if typed and not self.lexicon.is_name(typed):
                return typed, meant


def collect(speller: Speller, drawn: Drawn, count: int) -> tuple[list[np.ndarray], list[int]]:  # type: ignore[type-arg]
    """Feature matrices and the position of the right reading for `count` queries."""
    matrices, targets = [], []
    for _ in track(range(count // BATCH), description="scoring readings", transient=True):
        pairs = [drawn.draw() for _ in range(BATCH)]
        questions = [Question(t, [c.text for c in drawn.lexicon.candidates(t, MAX_CANDIDATES)]) for t, _ in pairs]
        for (typed, meant), readings in zip(pairs, asyncio.run(speller.score(questions)), strict=True):
            matrices.append(features(typed, readings, drawn.lexicon))
            texts = [r.text for r in readings]
            targets.append(texts.index(meant) if meant in texts else 0)
    return matrices, targets


def fit(catalogues: list[Path], others: Path | None, repository: Path, out: Path, count: int, seed: int = 17) -> None:
    """Fit on `count` queries of each catalogue, calibrate on a fifth of them kept apart, write JSON to `out`."""
    lines = others.read_text(encoding="utf-8").splitlines() if others else []
    texts = list(dict.fromkeys(t for t in (fold(line.split("\t")[0])[:60] for line in lines[1:]) if len(t) > 3)) or ["news"]
    backend = LocalBackend(repository, threads=2)
    matrices: list[np.ndarray] = []  # type: ignore[type-arg]
    targets: list[int] = []
    for n, catalogue in enumerate(catalogues):
        drawn = Drawn(catalogue, texts, seed + n)
        speller = Speller(backend, drawn.lexicon, None, Policy(1, 1), timeout_s=60, max_in_flight=1, max_queue=64)  # type: ignore[arg-type]
        found = collect(speller, drawn, count)
        matrices += found[0]
        targets += found[1]
    width = max(len(m) for m in matrices)
    x = torch.zeros(len(matrices), width, len(FEATURES))
    mask = torch.zeros(len(matrices), width, dtype=torch.bool)
    for i, m in enumerate(matrices):
        x[i, : len(m)] = torch.from_numpy(m)
        mask[i, : len(m)] = True
    y = torch.tensor(targets)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(len(FEATURES), HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)

    def logits(rows: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = net(x[rows]).squeeze(-1).masked_fill(~mask[rows], -1e9)
        return scores

    for _ in range(60):
        for rows in train[torch.randperm(len(train))].split(256):
            loss = torch.nn.functional.cross_entropy(logits(rows), y[rows], label_smoothing=0.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        held = logits(test)
        temperatures = np.linspace(0.6, 2.5, 39)
        losses = [float(torch.nn.functional.cross_entropy(held / t, y[test])) for t in temperatures]
        temperature = float(temperatures[int(np.argmin(losses))])
        probabilities = (held / temperature).softmax(-1)
        confidence, choice = probabilities.max(-1)
        right = (choice == y[test]).float()
        error = sum(
            float((confidence[b].mean() - right[b].mean()).abs()) * int(b.sum())
            for lo in np.arange(0, 1, 0.1)
            if (b := (confidence > lo) & (confidence <= lo + 0.1)).any()
        ) / len(test)
    figures = f"right {right.mean():.1%}, calibration error {error:.3f}, T {temperature:.2f}"
    print(f"{len(train)} queries fitted, {len(test)} held out: {figures}")
    weights = [(net[0].weight.T, net[0].bias), (net[2].weight.T, net[2].bias)]
    layers = [[np.round(w.detach().numpy(), 5).tolist(), np.round(b.detach().numpy(), 5).tolist()] for w, b in weights]
    out.write_text(json.dumps({"features": FEATURES, "layers": layers, "temperature": temperature}) + "\n")
