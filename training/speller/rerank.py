"""Fit the reranker: which of a query's scored readings was meant.

    searchbar train reranker --catalogue app/data/demo.csv --catalogue charts.tsv --others playlists.tsv:playlist

Queries are drawn from the catalogues and from text that is in none, some misspelt by `training/noise.py`. What the network
must not learn by heart is kept from it: half the queries are for names that the speller never trained on (its hold-out is
split in two, one half for this fit and one for `make evaluate`), and a quarter of the names is missing from the lexicon. The
target is the right reading where it is among the candidates, and the query itself where it is not: what cannot be corrected
is left alone.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from app.domain import Item
from app.errors import InvalidInput
from app.lexicon import Lexicon
from app.reranker import FEATURES, Reranker, features
from app.speller import MAX_CANDIDATES, Policy, Question, Speller
from app.text import fold
from training import corpus as corpus_
from training.embedder.pairs import read_items
from training.local import LocalBackend
from training.noise import corrupt
from training.speller.ranknet import Net, fit_net

BATCH = 32
UNSEEN = corpus_.HOLDOUT / 2  # share of titles for this fit that the speller never saw; the other half is for evaluation
MISSING = 0.25  # share of names that the lexicon does not know
UNSEEN_SHARE = 0.5  # of the queries
ABOUT_OTHERS, MISSPELT_OTHERS, PARTS, CLEAN = 0.22, 0.03, 0.13, 0.40  # shares; the rest are misspelt names


@dataclass(frozen=True, slots=True)
class Example:
    """A query's features [readings, features], the position of the right reading, and the texts for reading misses."""

    matrix: npt.NDArray[np.float32]
    target: int
    typed: str
    meant: str


class Drawn:
    """Queries with what was meant, over a catalogue whose lexicon lacks a share of its names."""

    def __init__(self, catalogue: Path, others: list[str], seed: int) -> None:
        self.rng = random.Random(seed)
        self.lexicon = Lexicon(item for item in read_items(catalogue) if not _missing(item))
        self.corpus = corpus_.load([catalogue])
        self.unseen = [e for e in self.corpus.entries if corpus_.held_out(e.title, UNSEEN)]
        self.others = others

    def draw(self) -> tuple[str, str, list[str]]:
        """(typed, meant, candidates), all folded. A name without rivals never reaches the reranker and is not drawn."""
        while True:
            typed, meant = self._draw()
            if not typed:
                continue
            found = self.lexicon.proposals(typed, MAX_CANDIDATES)
            if found or not self.lexicon.is_name(typed):
                return typed, meant, [c.text for c in found]

    def _draw(self) -> tuple[str, str]:
        kind = self.rng.random()
        if kind < ABOUT_OTHERS + MISSPELT_OTHERS and self.others:
            meant = self.rng.choice(self.others)
            return (meant, meant) if kind < ABOUT_OTHERS else (corrupt(meant, self.rng), meant)
        if self.unseen and self.rng.random() < UNSEEN_SHARE:
            meant = self.rng.choice(self.unseen).title
        else:
            meant = corpus_.query_for(self.corpus.draw(self.rng), self.rng)
        kind = self.rng.random()
        if kind < PARTS and " " in meant:
            words = meant.split()
            cut = self.rng.randint(1, len(words) - 1)
            meant = " ".join(words[:cut] if self.rng.random() < 0.7 else words[cut:])
        return (meant, meant) if self.rng.random() < CLEAN else (corrupt(meant, self.rng), meant)


def _missing(item: Item) -> bool:
    return corpus_.held_out(f"missing from the lexicon: {fold(item.title)}", MISSING)


def collect(speller: Speller, drawn: Drawn, count: int, label: str) -> list[Example]:
    """Features and the position of the right reading for `count` queries."""
    found = []
    for _ in track(range(count // BATCH), description=label, transient=True):
        drawn_now = [drawn.draw() for _ in range(BATCH)]
        questions = [Question(typed, candidates) for typed, _, candidates in drawn_now]
        for (typed, meant, _), readings in zip(drawn_now, asyncio.run(speller.score(questions)), strict=True):
            texts = [r.text for r in readings]
            matrix = features(typed, readings, drawn.lexicon)
            found.append(Example(matrix, texts.index(meant) if meant in texts else 0, typed, meant))
    return found


def other_texts(files: list[str]) -> list[str]:
    """Folded queries about things in no catalogue, each once: half of the texts of `FILE` or `FILE:COLUMN`, TSV with a header.

    Which half is decided by hash; the other one is for evaluation. Without a column name the first column is read.

    Raises:
        InvalidInput: there is no such file or column.
    """
    found: dict[str, None] = {}
    for source in files:
        name, _, column = source.partition(":")
        try:
            rows = corpus_.read_rows(Path(name))
            texts = [fold(row[column] if column else next(iter(row.values())))[:60] for row in rows]
        except (OSError, KeyError) as exc:
            raise InvalidInput(f"--others {source}: no such {'column' if isinstance(exc, KeyError) else 'file'}") from exc
        found |= dict.fromkeys(t for t in texts if len(t) > 3 and not corpus_.for_evaluation(t))
    return list(found)


def fit(catalogues: list[Path], others: list[str], repository: Path, out: Path, count: int, seed: int = 17) -> str:
    """Fit on `count` queries of each catalogue, a fifth of them kept apart for calibration; write JSON to `out`.

    Returns one line about the fit.
    """
    backend = LocalBackend(repository, threads=2)
    nobody = Reranker([], 1.0)  # only scores are asked for
    examples: list[Example] = []
    for n, catalogue in enumerate(catalogues):
        drawn = Drawn(catalogue, other_texts(others), seed + n)
        policy = Policy(1, 1)
        speller = Speller(backend, drawn.lexicon, nobody, policy, timeout_s=60, max_in_flight=1, max_queue=64)
        examples += collect(speller, drawn, count, f"scoring readings of {catalogue.name}")
    net, report = fit_net([e.matrix for e in examples], [e.target for e in examples], seed)
    save(net, out)
    return report


def save(net: Net, out: Path) -> None:
    """Write what `app.reranker.Reranker.load` reads."""
    layers = [[np.round(w, 5).tolist(), np.round(b, 5).tolist()] for w, b in net.layers]
    stored = {"features": FEATURES, "layers": layers, "temperature": net.temperature}
    out.write_text(json.dumps(stored) + "\n", encoding="utf-8")
