"""What the graphs are given in use: names of the demo catalogue, right and wrong, for the fixed scales of `quantise.py`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from app.index.passage import passage_text
from app.settings import ROOT
from app.text import fold
from training.evaluation.cases import demo_items
from training.local import PAD, load_module
from training.noise import corrupt
from training.quantise import Feed

SEED = 20_261_126
ITEMS = 384
AT_ONCE = 32  # texts in one feed
READINGS = 3  # that the decoder scores for a query: the name meant, and others
MAX_TOKENS = 64
AGGRESSIVE = ROOT / "triton" / "models" / "speller_generate" / "1" / "aggressive.py"
Ids = npt.NDArray[np.int64]


def embedder_feeds(tokenizer: Path) -> list[Feed]:
    """Passages, titles and pairs of title and artist for an encoder of input_ids and attention_mask."""
    known = Tokenizer.from_file(str(tokenizer))
    known.enable_truncation(MAX_TOKENS)
    rng = random.Random(SEED)
    items = rng.sample(demo_items(), ITEMS)
    texts = [text for item in items for text in (passage_text(item), fold(item.title), fold(f"{item.title} {item.artist}"))]
    rng.shuffle(texts)
    return [_padded([e.ids for e in known.encode_batch_fast(some)], 0) for some in parts(texts)]


def speller_feeds(encoder: Path, decoder: Path, tokenizer: Path) -> tuple[list[Feed], list[Feed]]:
    """What the fp32 graphs `encoder` and `decoder` are given when names are mended: half of the queries misspelt."""
    known = Tokenizer.from_file(str(tokenizer))
    known.enable_truncation(MAX_TOKENS)
    rng = random.Random(SEED)
    items = rng.sample(demo_items(), ITEMS)
    names = [fold(rng.choice((item.title, f"{item.title} {item.artist}"))) for item in items]
    encode, decode = (onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in (encoder, decoder))
    decoding = load_module(AGGRESSIVE)
    encoded: list[Feed] = []
    decoded: list[Feed] = []
    for meant in parts(names):
        typed = [corrupt(name, rng) if rng.random() < 0.5 else name for name in meant]
        readings = [[name, *rng.sample(names, READINGS - 1)] for name in meant]
        feed = _padded([known.encode(text).ids for text in typed], PAD)
        encoded.append(feed)
        candidates = _padded([known.encode(text).ids for row in readings for text in row], PAD)["input_ids"]
        states = {"hidden": encode.run(None, dict(feed))[0], "attention_mask": feed["attention_mask"]}

        def verify(trees: Mapping[str, Any], states: Feed = states) -> Sequence[Any]:
            decoded.append({**states, **trees})
            found: Sequence[Any] = decode.run(None, dict(decoded[-1]))
            return found

        decoding.decode(feed["input_ids"], candidates.reshape(len(typed), READINGS, -1), verify)
    return encoded, decoded


def parts(texts: list[str]) -> Iterator[list[str]]:
    """`texts` in lists of `AT_ONCE`."""
    return (texts[at : at + AT_ONCE] for at in range(0, len(texts), AT_ONCE))


def _padded(rows: Sequence[Sequence[int]], pad: int) -> dict[str, Ids]:
    """Rows of token ids as input_ids and attention_mask [rows, tokens]."""
    ids = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
