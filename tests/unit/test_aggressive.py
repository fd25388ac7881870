"""Aggressive decoding is greedy decoding: proved against a language model that is a seeded table.

The model knows a source and a prefix by a rolling hash. Each next token's scores are a row of the table, and for most prefixes
the token that copies the source (at a shift of its own for each source) is raised above them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

VOCABULARY = 12  # ids 0–11, PAD 1 and EOS 2 among them
TABLE = 4096
Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Trees = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def aggressive() -> ModuleType:
    """The module as Triton sees it: a file beside its model, in no package."""
    path = Path(__file__).parents[2] / "triton" / "models" / "speller_generate" / "1" / "aggressive.py"
    spec = importlib.util.spec_from_file_location("aggressive", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TableModel:
    """A deterministic decoder over `sources`; `copying` is the share of prefixes after which it copies."""

    def __init__(self, sources: Sequence[Sequence[int]], copying: float, seed: int = 0, shifts: Sequence[int] = (0,)) -> None:
        rng = np.random.default_rng(seed)
        table = rng.normal(size=(TABLE, VOCABULARY))
        table[:, 1] = -np.inf  # padding is never an output
        table[:, 2] -= 1.0
        self._table = table
        self._copies = rng.random(TABLE) < copying
        self._sources = sources
        self._shifts = np.array([shifts[hash_of(source) % len(shifts)] for source in sources])
        self.passes = 0
        self._known: dict[tuple[int, tuple[int, ...]], npt.NDArray[np.float64]] = {}

    def scores(self, rows: Ids, prefix: Ids) -> npt.NDArray[np.float64]:
        """Log-probabilities [r, t, VOCABULARY] of what follows each prefix."""
        state = np.array([hash_of(self._sources[row]) for row in rows], np.int64)
        out = np.empty((*prefix.shape, VOCABULARY))
        for t in range(prefix.shape[1]):
            state = (state * 31 + prefix[:, t] + 7) * 2654435761 % (1 << 31)
            out[:, t] = self._table[state % TABLE]
            for r, row in enumerate(rows):
                source, at = self._sources[row], t + (self._shifts[row] if t else 0)
                if at < len(source) and self._copies[state[r] % TABLE]:
                    out[r, t, source[at]] += 20.0
        top = out.max(axis=2, keepdims=True)
        return np.asarray(out - top - np.log(np.exp(out - top).sum(axis=2, keepdims=True)))

    def verify(self, trees: Trees) -> tuple[Ids, Floats, Floats]:
        """What speller_decoder answers: argmax and its log-probability [asked], the labels' log-probability [edges]."""
        self.passes += 1
        owners, places = np.divmod(trees["slots"], trees["visible"].shape[1])
        scores = []
        for node in trees["asked"]:
            tree = owners[node]
            row = int(trees["rows"][tree])
            seen = np.flatnonzero((owners == tree) & trees["visible"][tree, places[node]][places])
            assert trees["positions"][seen].tolist() == list(range(len(seen))), "a node sees one token at each depth above it"
            prefix = tuple(trees["tokens"][seen].tolist())
            if (row, prefix) not in self._known:
                self._known[row, prefix] = self.scores(np.array([row]), np.array([prefix]))[0, -1]
            scores.append(self._known[row, prefix])
        table = np.array(scores)
        return table.argmax(axis=1), table.max(axis=1), table[trees["edges"], trees["labels"]]

    def greedy(self, row: int, limit: int) -> tuple[list[int], float]:
        """Plain greedy decoding, a token a pass: the definition."""
        tokens: list[int] = []
        total = 0.0
        while len(tokens) < limit and tokens[-1:] != [2]:
            last = self.scores(np.array([row]), np.array([[2, *tokens]]))[0, -1]
            tokens.append(int(last.argmax()))
            total += float(last.max())
        return tokens, total

    def logprob(self, row: int, text: Sequence[int]) -> float:
        """Of a whole text, token by token."""
        scores = self.scores(np.array([row]), np.array([[2, *text[:-1]]]))[0]
        return float(sum(scores[t, token] for t, token in enumerate(text)))


def hash_of(source: Sequence[int]) -> int:
    state = 17
    for token in source:
        state = (state * 131 + token) % (1 << 31)
    return state


def draw_text(rng: np.random.Generator, most: int = 8) -> list[int]:
    return [*(int(token) for token in rng.integers(3, VOCABULARY, rng.integers(1, most + 1))), 2]


def misspell(text: list[int], rng: np.random.Generator) -> list[int]:
    """`text` with one token changed, dropped or added, its EOS kept."""
    at, other = int(rng.integers(0, len(text) - 1)), int(rng.integers(3, VOCABULARY))
    head, tail = text[:at], text[at:]
    return [[*head, other, *tail[1:]], [*head, *tail[1:]], [*head, other, *tail]][rng.integers(3)]


def draw_candidate(source: list[int], rng: np.random.Generator) -> list[int]:
    """A near reading, another text, the source itself, nothing, or garbage that is cut off before its EOS."""
    kinds: tuple[list[int], ...] = (
        misspell(source, rng),
        draw_text(rng),
        source,
        [],
        draw_text(rng, 14)[:-1],
        [2],
        source[:-1],
    )
    return kinds[rng.choice(len(kinds), p=(0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05))]


def padded(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int32]:
    """[rows, longest] int32, filled with PAD; at least one column."""
    out = np.full((len(rows), max([1, *(len(row) for row in rows)])), 1, np.int32)
    for r, row in enumerate(rows):
        out[r, : len(row)] = row
    return out


def stacked(candidates: Sequence[Sequence[Sequence[int]]]) -> npt.NDArray[np.int32]:
    """[batch, n, tokens] int32 of equally many candidates a source."""
    flat = padded([text for texts in candidates for text in texts])
    return flat.reshape(len(candidates), -1, flat.shape[1])


@pytest.mark.parametrize(
    ("copying", "shifts"),
    [
        pytest.param(0.9, (0,), id="a speller: copies nine in ten"),
        pytest.param(0.7, (0, 0, 1, -1, 2), id="copies with letters dropped and added"),
        pytest.param(0.0, (0,), id="never copies"),
    ],
)
def test_output_is_that_of_greedy_decoding(aggressive: ModuleType, copying: float, shifts: tuple[int, ...]) -> None:
    """Over 1 000 random sources each, in batches with random candidates: greedy's output token for token, and every score."""
    rng = np.random.default_rng(5)
    saved = 0
    for batch in range(20):
        sources = [draw_text(rng) for _ in range(50)]
        candidates = [[draw_candidate(source, rng) for _ in range(3)] for source in sources]
        model = TableModel(sources, copying, seed=batch, shifts=shifts)
        outputs, logprobs, of_candidates, of_queries, passes = aggressive.decode(
            padded(sources), stacked(candidates), model.verify
        )
        assert model.passes == max(passes)
        for row, source in enumerate(sources):
            expected, total = model.greedy(row, min(len(source) + aggressive.SLACK, aggressive.MAX_TOKENS))
            assert outputs[row] == expected
            assert logprobs[row] == pytest.approx(total, abs=1e-3)
            assert of_queries[row] == pytest.approx(model.logprob(row, source), abs=1e-3)
            for text, given in zip(candidates[row], of_candidates[row], strict=True):
                assert given == pytest.approx(model.logprob(row, text) if text else -np.inf, abs=1e-3)
            assert 1 <= passes[row] <= len(expected)
            saved += len(expected) - int(passes[row])
    assert saved > 0 or copying == 0.0


def test_a_clean_copy_takes_one_pass(aggressive: ModuleType) -> None:
    """A query that the model leaves alone is decoded and scored in a single pass, whatever its candidates."""
    rng = np.random.default_rng(6)
    sources = [draw_text(rng) for _ in range(100)]
    model = TableModel(sources, copying=1.0)
    candidates = stacked([[draw_candidate(source, rng)] for source in sources])
    outputs, logprobs, _, of_queries, passes = aggressive.decode(padded(sources), candidates, model.verify)
    assert outputs == sources
    assert passes.tolist() == [1] * 100
    assert model.passes == 1
    np.testing.assert_allclose(logprobs, of_queries, atol=1e-4)


def test_a_proposed_correction_takes_one_pass(aggressive: ModuleType) -> None:
    """Where the model's own output is among the candidates one pass confirms it; without it the same sources take more."""
    rng = np.random.default_rng(7)
    sources = [draw_text(rng) for _ in range(300)]
    model = TableModel(sources, copying=0.9)
    meant = [model.greedy(row, len(source) + aggressive.SLACK)[0] for row, source in enumerate(sources)]
    rows = [row for row, text in enumerate(meant) if text[-1] == 2 and text != sources[row]]
    assert len(rows) > 50
    sources, meant = [sources[row] for row in rows], [meant[row] for row in rows]
    model = TableModel(sources, copying=0.9)
    proposed = stacked([[[], draw_text(rng), text] for text in meant])
    outputs, logprobs, of_candidates, _, passes = aggressive.decode(padded(sources), proposed, model.verify)
    assert outputs == meant
    assert set(passes.tolist()) == {1}
    np.testing.assert_allclose(of_candidates[:, 2], logprobs, atol=1e-4)
    assert np.isneginf(of_candidates[:, 0]).all()
    *_, alone = aggressive.decode(padded(sources), stacked([[[]] for _ in sources]), model.verify)
    assert alone.mean() > 1.5  # one suffices only where the output breaks off at the query's very end


def test_mates_do_not_change_an_output(aggressive: ModuleType) -> None:
    """A query decoded alone and in a batch gives the same output in as many passes."""
    rng = np.random.default_rng(8)
    sources = [draw_text(rng) for _ in range(30)]
    candidates = [[draw_candidate(source, rng) for _ in range(2)] for source in sources]
    together, *_, passes = aggressive.decode(padded(sources), stacked(candidates), TableModel(sources, 0.8).verify)
    for row, source in enumerate(sources):
        alone, *_, own = aggressive.decode(padded([source]), stacked([candidates[row]]), TableModel([source], 0.8).verify)
        assert (alone[0], own[0]) == (together[row], passes[row])


def test_output_ends_at_its_limit(aggressive: ModuleType) -> None:
    """A model that never stops is stopped `SLACK` tokens after the query's length, and at `MAX_TOKENS` in any case."""

    def never(trees: Trees) -> tuple[Ids, Floats, Floats]:
        asked, edges = len(trees["asked"]), len(trees["edges"])
        return np.full(asked, 5), np.full(asked, -1.0), np.full(edges, -2.0)

    sources = [[7, 7, 2], [6] * 63 + [2]]
    outputs, logprobs, *_ = aggressive.decode(padded(sources), stacked([[[]], [[]]]), never)
    assert [len(tokens) for tokens in outputs] == [3 + aggressive.SLACK, aggressive.MAX_TOKENS]
    assert logprobs.tolist() == [-15.0, -72.0]


def test_an_end_inside_a_draft_ends_the_output(aggressive: ModuleType) -> None:
    """A draft with a token after EOS (a query that holds the tokeniser's `</s>`) must not carry the output past EOS."""
    rng = np.random.default_rng(9)
    sources = [[*draw_text(rng, 3), *draw_text(rng, 3)] for _ in range(50)]
    model = TableModel(sources, copying=0.95)
    outputs, *_ = aggressive.decode(padded(sources), stacked([[[]] for _ in sources]), model.verify)
    assert outputs == [model.greedy(row, len(source) + aggressive.SLACK)[0] for row, source in enumerate(sources)]


def test_drafts_share_what_they_begin_with(aggressive: ModuleType) -> None:
    """The first pass holds each distinct beginning once: as many nodes as there are different prefixes, no token after EOS."""
    sources, candidates = [[3, 4, 5, 2], [6, 2]], [[[3, 4, 6, 2], [3, 4, 5, 2]], [[6, 7, 2], []]]
    given: list[Trees] = []

    def verify(trees: Trees) -> tuple[Ids, Floats, Floats]:
        given.append(trees)
        return np.full(len(trees["asked"]), 2), np.zeros(len(trees["asked"])), np.zeros(len(trees["edges"]))

    aggressive.decode(padded(sources), stacked(candidates), verify)
    (trees,) = given
    assert trees["tokens"].tolist() == [2, 3, 4, 5, 6, 2, 6, 7]
    assert trees["positions"].tolist() == [0, 1, 2, 3, 3, 0, 1, 2]
    assert trees["slots"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert trees["visible"][0, 4].tolist() == [True, True, True, False, True]
    assert len(trees["edges"]) == 4 + 2 + 2 + 2


def test_later_passes_ask_only_for_what_is_new(aggressive: ModuleType) -> None:
    """The accepted prefix is there to be attended to; what follows each of its tokens is known already."""
    rng = np.random.default_rng(10)
    sources = [draw_text(rng) for _ in range(40)]
    model, asked = TableModel(sources, copying=0.7), []

    def verify(trees: Trees) -> tuple[Ids, Floats, Floats]:
        asked.append((len(trees["asked"]), len(trees["tokens"])))
        return model.verify(trees)

    aggressive.decode(padded(sources), stacked([[[]] for _ in sources]), verify)
    assert asked[0][0] == asked[0][1]
    assert len(asked) > 1 and all(few < all_of_them for few, all_of_them in asked[1:])
