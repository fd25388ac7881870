"""Simulated traffic: queries of the demo catalogue with typos, as `perf_analyzer --input-data` reads them.

Random token ids would fall outside the vocabulary, and random texts would decode to garbage of any length.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

from app.domain import Item
from app.index.readers import read_items
from app.inference import Array
from app.lexicon import Lexicon
from app.text import fold
from training.local import LocalBackend
from training.noise import corrupt

MISTYPED = 0.7  # as in loadtest/locustfile.py
MAX_CANDIDATES = 5  # as app/speller.py sends
SEED = 20


def queries(items: Sequence[Item], count: int, rng: random.Random) -> list[str]:
    """Folded titles drawn by popularity, seven of ten with typing errors."""
    names = [item for item in items if len(item.title) > 3]
    drawn = rng.choices(names, [max(item.popularity, 1.0) for item in names], k=count)
    folded = [fold(item.title) for item in drawn]
    return [corrupt(text, rng) if rng.random() < MISTYPED else text for text in folded]


def write_inputs(repository: Path, catalogue: Path, out: Path, count: int) -> None:
    """Writes `<model>.json` for every model that is profiled into `out`.

    Args:
        repository: model repository whose tokenizers, encoder and decoder make the tensors of the inner models.
        count: requests in each file; `perf_analyzer` goes round them.
    """
    items = [row for row in read_items(catalogue) if isinstance(row, Item)]
    texts = queries(items, count, random.Random(SEED))
    lexicon = Lexicon(items)
    candidates = [[c.text for c in lexicon.proposals(text, MAX_CANDIDATES)] or [text] for text in texts]
    out.mkdir(parents=True, exist_ok=True)
    words = [{"QUERY": [text]} for text in texts]
    save(out / "embedder.json", words)
    save(out / "embedder_tokenize.json", words)
    save(out / "embedder_encoder.json", [tensors(row) for row in embedder_rows(repository, texts)])
    backend = LocalBackend(repository)
    spelt = [
        (backend.encode([[text]])[:, 0], backend.encode([options])) for text, options in zip(texts, candidates, strict=True)
    ]
    save(out / "speller_generate.json", [tensors({"SOURCE_IDS": s[0], "CANDIDATE_IDS": c[0]}) for s, c in spelt])
    masked = [{"input_ids": s[0].astype(np.int64), "attention_mask": (s[0] != 1).astype(np.int64)} for s, _ in spelt]
    save(out / "speller_encoder.json", [tensors(row) for row in masked])
    # An eighth of them: each carries an encoder's output, tens of kilobytes as text.
    encoder = InferenceSession(str(repository / "speller_encoder" / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    passes = [first_pass(backend, encoder, s, c) for s, c in spelt[: max(8, count // 8)]]
    save(out / "speller_decoder.json", [tensors(row) for row in passes])


def embedder_rows(repository: Path, texts: Sequence[str]) -> list[dict[str, Array]]:
    """What `embedder_tokenize` makes of each text alone: ids and mask [tokens] int64, padded to a bucket."""
    folder = repository / "embedder_tokenize" / "1"
    buckets = _buckets(folder / "model.py")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    tokenizer.enable_truncation(buckets[-1])
    rows = []
    for encoding in tokenizer.encode_batch(list(texts)):
        width = next(bucket for bucket in buckets if bucket >= len(encoding))
        ids, mask = np.zeros(width, np.int64), np.zeros(width, np.int64)
        ids[: len(encoding)], mask[: len(encoding)] = encoding.ids, 1
        rows.append({"input_ids": ids, "attention_mask": mask})
    return rows


def _buckets(model: Path) -> tuple[int, ...]:
    """The tokenizer model's padded lengths; the file itself imports a module that only Triton has."""
    line = next(line for line in model.read_text(encoding="utf-8").splitlines() if line.startswith("BUCKETS = "))
    return tuple(int(part) for part in line.partition("(")[2].strip(" )").split(","))


def first_pass(backend: LocalBackend, encoder: InferenceSession, sources: Array, candidates: Array) -> dict[str, Array]:
    """Inputs of `speller_decoder` in the pass that verifies the query and its candidates, by tensor name."""
    ids = sources.astype(np.int64)
    mask = (ids != 1).astype(np.int64)
    seen: list[dict[str, Array]] = []
    verify = backend.verifier(sources)

    def spy(trees: Mapping[str, Array]) -> Any:
        seen.append(dict(trees))
        return verify(trees)

    backend.aggressive.decode(sources, candidates, spy)
    (hidden,) = encoder.run(["hidden"], {"input_ids": ids, "attention_mask": mask})
    return {"hidden": hidden, "attention_mask": mask, **seen[0]}


def tensors(row: Mapping[str, Array]) -> dict[str, Any]:
    """Tensors in the JSON form that names their shape."""
    return {name: {"content": array.ravel().tolist(), "shape": list(array.shape)} for name, array in row.items()}


def save(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text(json.dumps({"data": rows}), encoding="utf-8")
