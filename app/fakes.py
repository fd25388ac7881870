"""Stand-ins for Triton and the vector index that are real objects, for tests and for trying the gateway without either."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA

from app.domain import Filters, Hit, IndexQuery, Item, Vector
from app.errors import DeadlineExceeded, ModelFailed, ModelUnavailable, SearchbarError
from app.inference import Array
from app.text import fold

DIMENSIONS = 256  # of triton/models/embedder


class Call(NamedTuple):
    """One call that `FakeTriton` has seen."""

    model: str
    inputs: dict[str, Array]
    timeout_s: float


class FakeTriton:
    """A Triton with a speller and an embedder; fulfils `inference.InferenceBackend`.

    Enough wherever the gateway is tested: it keeps the tensors' names, types and shapes of the two ensembles, answers the same
    question in the same way, and can be late, away, unready or wrong. What it cannot show is quality: its speller knows the
    corrections it was given and thinks all else correct, and its embeddings know no meaning.

    Attributes:
        corrections: folded query → the reading the speller prefers.
        latency_s: model → time an answer takes; 0 for a model not in it.
        failures: model → what `infer` raises.
        unready: models that `ready` denies.
        calls: what was asked, oldest first.
        cancelled: the models of calls that whoever asked gave up.
    """

    def __init__(self, corrections: Mapping[str, str] | None = None) -> None:
        self.corrections = dict(corrections or {})
        self.latency_s: dict[str, float] = {}
        self.failures: dict[str, SearchbarError] = {}
        self.unready: set[str] = set()
        self.calls: list[Call] = []
        self.cancelled: list[str] = []
        self.closed = False

    def stop(self) -> None:
        """From now on behave as a server that is down."""
        for model in ("speller", "embedder"):
            self.failures[model] = ModelUnavailable(f"{model}: unavailable (connection refused)")
            self.unready.add(model)

    async def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, Array]:
        """See `InferenceBackend.infer`; a latency over `timeout_s` is a DeadlineExceeded after `timeout_s`."""
        self.calls.append(Call(model, dict(inputs), timeout_s))
        latency_s = self.latency_s.get(model, 0.0)
        try:
            await asyncio.sleep(min(latency_s, timeout_s))
        except asyncio.CancelledError:
            self.cancelled.append(model)
            raise
        if latency_s > timeout_s:
            raise DeadlineExceeded(f"{model}: no answer in time")
        if model in self.failures:
            raise self.failures[model]
        if model == "speller":
            found = self._spell(inputs["QUERY"], inputs["CANDIDATES"])
        elif model == "embedder":
            found = {"EMBEDDING": np.stack([unit_vector(text) for text in inputs["QUERY"][:, 0]])}
        else:
            raise ModelUnavailable(f"{model}: unavailable (unknown model)")
        if missing := set(outputs) - set(found):
            raise ModelFailed(f"{model}: unexpected inference output {', '.join(sorted(missing))}")
        return {name: found[name] for name in outputs}

    async def ready(self, model: str) -> bool:
        return model in ("speller", "embedder") and model not in self.unready

    async def close(self) -> None:
        self.closed = True

    def _spell(self, queries: Array, candidates: Array) -> dict[str, Array]:
        typed = [text.decode() for text in queries[:, 0]]
        meant = [self.corrections.get(text, text) for text in typed]
        scores = [[logprob(m, text.decode()) for text in row] for m, row in zip(meant, candidates, strict=True)]
        text = np.empty((len(typed), 1), np.object_)
        text[:, 0] = [m.encode() for m in meant]
        return {
            "TEXT": text,
            "LOGPROB": np.asarray([[logprob(m, m)] for m in meant], np.float32),
            "QUERY_LOGPROB": np.asarray([[logprob(m, t)] for m, t in zip(meant, typed, strict=True)], np.float32),
            "CANDIDATE_LOGPROBS": np.asarray(scores, np.float32),
            "PASSES": np.asarray([[1 if m == t else 2] for m, t in zip(meant, typed, strict=True)], np.int32),
        }


def logprob(meant: str, reading: str) -> float:
    """Of `reading` when `meant` is the speller's own: -0.1, and 4 less for each edit between them."""
    return -0.1 - 4.0 * OSA.distance(meant, reading)


def unit_vector(text: bytes) -> Vector:
    """A random direction that depends on `text` alone, float32 [256] of length 1."""
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    drawn = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return np.asarray(drawn / np.linalg.norm(drawn), np.float32)


class FakeIndex:
    """An index over a list of items, ranked by shared words; fulfils `index.base.WritableIndex`.

    Enough where the gateway and the merging of readings are tested: hits follow the query's words, filters and limits hold, and
    it can be late or away. It never looks at vectors; what the real adapters make of them is in tests/contract.

    Attributes:
        rows: the items.
        latency_s: time a query takes.
        failure: what `query` and `count` raise, if anything.
        write_failures: what the next calls of `upsert` and `delete` raise, one each; None lets one through.
        queries: what was asked, oldest first.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.rows = list(items)
        self.latency_s = 0.0
        self.failure: SearchbarError | None = None
        self.write_failures: list[SearchbarError | None] = []
        self.queries: list[IndexQuery] = []

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    async def query(self, queries: Sequence[IndexQuery]) -> list[list[Hit]]:
        """See `VectorIndex.query`."""
        self.queries.extend(queries)
        await asyncio.sleep(self.latency_s)
        if self.failure:
            raise self.failure
        return [self._ranked(query) for query in queries]

    async def count(self) -> int:
        if self.failure:
            raise self.failure
        return len(self.rows)

    async def items(self) -> AsyncIterator[Item]:
        for item in self.rows:
            yield item

    async def get(self, ids: Sequence[str]) -> list[Item]:
        """See `WritableIndex.get`."""
        return [item for item in self.rows if item.id in ids]

    async def upsert(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """See `WritableIndex.upsert`; when it fails nothing is written."""
        assert vectors.shape == (len(items), DIMENSIONS)
        await self._may_fail()
        fresh = {item.id: item for item in items}
        self.rows = [item for item in self.rows if item.id not in fresh] + list(fresh.values())

    async def delete(self, ids: Sequence[str]) -> None:
        """See `WritableIndex.delete`."""
        await self._may_fail()
        self.rows = [item for item in self.rows if item.id not in ids]

    async def _may_fail(self) -> None:
        await asyncio.sleep(self.latency_s)
        failure = self.write_failures.pop(0) if self.write_failures else None
        if failure:
            raise failure

    async def close(self) -> None:
        """Nothing to release."""

    def _ranked(self, query: IndexQuery) -> list[Hit]:
        words = set(query.text.split())
        hits = []
        for item in self.rows:
            fields = {"title": item.title, "artist": item.artist, "text": " ".join((*item.genres, *item.moods, item.kind))}
            shared = {name: words & set(fold(text).split()) for name, text in fields.items()}
            score = len(set().union(*shared.values())) + item.popularity / 1000
            if any(shared.values()) and meets(item, query.filters):
                hits.append(Hit(item, score, tuple(name for name, found in shared.items() if found)))
        return sorted(hits, key=lambda hit: -hit.score)[: query.limit]


def meets(item: Item, filters: Filters) -> bool:
    """Whether `item` fulfils every condition; one without a year fulfils none on the year."""
    after = filters.year_gte is None or (item.year is not None and item.year >= filters.year_gte)
    before = filters.year_lte is None or (item.year is not None and item.year <= filters.year_lte)
    of_kind = not filters.kinds or item.kind in filters.kinds
    return after and before and of_kind and (not filters.genres or bool(set(filters.genres) & {g.lower() for g in item.genres}))
