"""`searchbar bench decoding`: aggressive decoding gives what greedy decoding gives, in how many passes, and how fast.

The reference is greedy decoding of the same graphs, a token a pass. Queries are a third clean names, a third names with one to
three typing errors and a third garbage, in batches of 32; each is decoded with the lexicon's candidates as drafts and without.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from app.domain import Item
from app.inference import Array
from app.lexicon import Lexicon
from app.settings import Settings
from app.speller import MAX_CANDIDATES
from app.text import fold
from training.evaluation.cases import SEED, demo_items
from training.evaluation.markdown import decimal, table
from training.evaluation.sections import write_section
from training.local import PAD, LocalBackend
from training.noise import corrupt

BATCH = 32
START = EOS = 2
CLEAN, ONE, MORE, GARBAGE = "clean name", "one error", "two or three errors", "garbage"
ALPHABET = string.ascii_lowercase + string.digits + "  '&-.éüßøñ漢字かな한글сердцеمرحبا🎵💔"
LISTED = 20  # differences written out


@dataclass(frozen=True, slots=True)
class Asked:
    """A query and its sort."""

    text: str
    sort: str


@dataclass(frozen=True, slots=True)
class Compared:
    """Queries whose aggressive output is not the greedy one, and the decoder passes of each query."""

    differing: list[str]
    passes: list[int]


def queries(items: Sequence[Item], count: int, seed: int) -> list[Asked]:
    """Clean names, names with one to three errors, and garbage, in turn."""
    rng = random.Random(seed)
    asked: list[Asked] = []
    while len(asked) < count:
        item = rng.choice(items)
        name = fold(rng.choice((item.title, item.artist, f"{item.title} {item.artist}"))) or "x"
        edits = rng.choices((1, 2, 3), (4, 1, 1))[0]
        sorts = (
            Asked(name, CLEAN),
            Asked(corrupt(name, rng, edits), ONE if edits == 1 else MORE),
            Asked(garbage(rng), GARBAGE),
        )
        asked.append(sorts[len(asked) % 3])
    return asked


def garbage(rng: random.Random) -> str:
    """Letters, digits and signs of several scripts, up to 40; one in eight anything that Unicode assigns a number."""
    length = rng.randint(1, 40)
    wild = rng.random() < 0.125
    text = "".join(chr(rng.randint(32, 0x2FFFF)) if wild else rng.choice(ALPHABET) for _ in range(length))
    return text.encode("utf-8", "ignore").decode().strip() or "x"  # lone surrogates are no text


def drafts(lexicon: Lexicon, text: str) -> list[str]:
    """The candidates that the gateway would send with a query."""
    return [] if lexicon.is_name(text) else [c.text for c in lexicon.proposals(text, MAX_CANDIDATES)]


def plain_greedy(verify: Callable[..., tuple[Array, Array, Array]], sources: Array, limits: Sequence[int]) -> list[list[int]]:
    """One token a pass for every row that has not ended, whole prefixes each time: the definition of greedy decoding.

    Args:
        verify: a decoder pass, `LocalBackend.verifier(sources)`.
        limits: the most tokens of each output.
    """
    outputs: list[list[int]] = [[] for _ in sources]
    length = 0
    while active := [b for b, out in enumerate(outputs) if length < limits[b] and EOS not in out]:
        length += 1
        count = len(active)
        last = np.arange(count, dtype=np.int64) * length + length - 1
        argmax, _, _ = verify(
            {
                "rows": np.array(active, np.int64),
                "visible": np.tile(np.tri(length, dtype=np.bool_), (count, 1, 1)),
                "slots": np.arange(count * length, dtype=np.int64),
                "tokens": np.array([[START, *outputs[b]] for b in active], np.int64).ravel(),
                "positions": np.tile(np.arange(length, dtype=np.int64), count),
                "asked": last,
                "edges": np.zeros(1, np.int64),
                "labels": np.full(1, EOS, np.int64),
            }
        )
        for b, token in zip(active, argmax.tolist(), strict=True):
            outputs[b].append(token)
    return outputs


def limits(backend: LocalBackend, sources: Array) -> list[int]:
    """The most tokens that aggressive decoding gives for each of `sources` [batch, tokens]."""
    lengths = (sources != PAD).sum(axis=1).tolist()
    return [min(length + backend.aggressive.SLACK, backend.aggressive.MAX_TOKENS) for length in lengths]


def compare(backend: LocalBackend, texts: Sequence[str], proposals: Sequence[Sequence[str]]) -> Compared:
    """Decode `texts` in batches both ways, aggressively with `proposals` as drafts."""
    differing: list[str] = []
    passes: list[int] = []
    for start in range(0, len(texts), BATCH):
        part = slice(start, start + BATCH)
        sources = backend.encode([[text] for text in texts[part]])[:, 0]
        candidates = backend.encode([list(row) or [""] for row in proposals[part]])
        verify = backend.verifier(sources)
        outputs, *_, taken = backend.aggressive.decode(sources, candidates, verify)
        expected = plain_greedy(verify, sources, limits(backend, sources))
        differing += [text for text, a, b in zip(texts[part], outputs, expected, strict=True) if a != b]
        passes += taken.tolist()
    return Compared(differing, passes)


def equality(backend: LocalBackend, count: int) -> list[str]:
    """Markdown: how many outputs differ, and decoder passes a query by sort."""
    items = demo_items()
    lexicon = Lexicon(items)
    asked = queries(items, count, SEED)
    texts = [a.text for a in asked]
    proposed = [drafts(lexicon, text) for text in texts]
    rows, differing = [], []
    for name, given in (("none but the query", [[] for _ in texts]), ("and the lexicon's candidates", proposed)):
        found = compare(backend, texts, given)
        differing += found.differing
        for sort in (CLEAN, ONE, MORE, GARBAGE):
            passes = np.array([p for p, a in zip(found.passes, asked, strict=True) if a.sort == sort])
            spread = [decimal(float(np.percentile(passes, q)), 0) for q in (50, 90, 99)]
            rows.append([name, sort, f"{len(passes):,}", decimal(float(passes.mean())), *spread, str(passes.max())])
    header = ("drafts", "query", "queries", "decoder passes, mean", "median", "90 %", "99 %", "most")
    lines = [
        f"**{len(differing)} of {2 * len(texts):,} outputs differ** from greedy decoding, a token a pass, of the same int8 "
        f"graphs: {len(texts):,} queries (clean names, names with errors, garbage in several scripts, a third each) in "
        f"batches of {BATCH}, each with the lexicon's candidates as drafts and without.",
        "",
        *table(header, rows),
    ]
    if differing:
        lines += [*(f"- differs: `{text!r}`" for text in differing[:LISTED]), ""]
    return lines


def main(count: int, checkpoint: Path | None, rounds: int, speed_count: int, out: Path | None, console: Console) -> None:
    """Print what was found; with a `checkpoint` compare speed with other decoders of it too; write a section to `out`."""
    settings = Settings()
    with console.status("comparing with greedy decoding"):
        lines = equality(LocalBackend(settings.model_repository, threads=2), count)
    if checkpoint:
        from training.evaluation.decoding_speed import speed  # needs PyTorch, which equality does not

        lines += speed(settings.model_repository, checkpoint, speed_count, rounds, console)
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    if out:
        write_section(out, "Decoding", "make bench-decoding", "\n".join(lines), "on two CPU cores, a process for each decoder")
