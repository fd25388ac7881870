"""The collaborators behind the HTTP routes, put together once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from app.adaptive_limit import AdaptiveLimit
from app.admission import Admission
from app.cache import AnswerCache
from app.catalogue import LiveCatalogue
from app.completion import Completion, Completions
from app.deadline import within
from app.domain import Correction, Hit, SearchAnswer, Vector
from app.embedder import MODEL as EMBEDDER
from app.embedder import Embedder
from app.errors import SearchbarError
from app.index.address import ClusterAddress
from app.index.base import VectorIndex
from app.index.process import IndexProcess
from app.inference import InferenceBackend
from app.lexicon import Lexicon
from app.near_names import NearNames
from app.reranker import Reranker
from app.search import Asked, SearchService
from app.settings import Settings
from app.spans import span
from app.speller import MODEL as SPELLER
from app.speller import Policy, Speller
from app.telemetry import Telemetry

INDEX = "index"
CANARY = "smels like teen sprit"

Result = TypeVar("Result")


@dataclass(slots=True)
class Gateway:
    """What `api.py` delegates to."""

    backend: InferenceBackend
    speller: Speller
    embedder: Embedder
    index: VectorIndex
    search: SearchService
    deadline_s: float
    completions: Completions
    telemetry: Telemetry = field(default_factory=Telemetry)
    admission: Admission | None = None  # None lets everybody in
    catalogue: LiveCatalogue | None = None  # None where the catalogue cannot be changed
    draining: bool = False  # the server is about to stop: not ready, though it still answers

    @classmethod
    def build(
        cls, settings: Settings, backend: InferenceBackend, index: VectorIndex, lexicon: Lexicon, completions: Completions
    ) -> Gateway:
        """A gateway from its settings and the two systems it stands between.

        Raises:
            SetupError: the reranker's weights cannot be read.
        """
        max_queue = settings.max_queue
        policy = Policy(settings.replace_threshold, settings.suggest_threshold, settings.certain_threshold)
        reranker = Reranker.load(settings.reranker)
        corrections: AnswerCache[str, Correction] = AnswerCache(settings.cache_entries, settings.cache_ttl_s)
        vectors: AnswerCache[str, Vector] = AnswerCache(settings.cache_entries, settings.cache_ttl_s)
        timeout_s = settings.model_timeout_s
        least, most = settings.least_limit, max(settings.least_limit, settings.most_limit)
        limit = AdaptiveLimit(least, most, rest=(least + most) // 2)
        speller = Speller(
            backend, lexicon, reranker, policy,
            timeout_s=timeout_s, max_in_flight=settings.max_in_flight, max_queue=max_queue,
            cache=corrections, observe=partial(limit.observe, SPELLER),
        )  # fmt: skip
        embedder = Embedder(
            backend, timeout_s=timeout_s, max_in_flight=settings.embedder_in_flight, max_queue=max_queue,
            cache=vectors, observe=partial(limit.observe, EMBEDDER),
        )  # fmt: skip
        # Other gateways may change an index on a server, and tell nobody.
        kept = 0 if isinstance(settings.index, ClusterAddress) else min(settings.cache_entries, settings.search_cache_entries)
        answers: AnswerCache[Asked, SearchAnswer] = AnswerCache(kept, settings.cache_ttl_s)
        readings: AnswerCache[Asked, list[Hit]] = AnswerCache(kept, settings.cache_ttl_s)
        if isinstance(index, IndexProcess):
            index.observe = partial(limit.observe, INDEX)
        near = NearNames(lexicon, completions)
        service = SearchService(
            speller, embedder, index, near, deadline_s=settings.deadline_s, cache=answers, readings=readings
        )
        gateway = cls(backend, speller, embedder, index, service, settings.deadline_s, completions)
        if settings.most_limit:
            gateway.admission = Admission(limit)
            gateway.telemetry.watch_admission(gateway.admission)
        gateway.telemetry.watch(SPELLER, corrections)
        gateway.telemetry.watch(EMBEDDER, vectors)
        gateway.telemetry.watch("search", answers)
        if kept:
            gateway.telemetry.watch("reading", readings)
        return gateway

    async def correct(self, queries: Sequence[str]) -> tuple[list[Correction], dict[str, float]]:
        """Corrections of several queries and the time they took; DeadlineExceeded when that is too long."""
        started = time.perf_counter()
        with span(SPELLER):
            found = await every(self.speller.correct, queries, self.deadline_s)
        return found, stopwatch("speller", started)

    def complete(self, typed: str, limit: int) -> tuple[list[Completion], dict[str, float]]:
        """At most `limit` completions of the typed text and the time they took; asks no model."""
        started = time.perf_counter()
        with span("completions"):
            found = self.completions.complete(typed, limit)
        return found, stopwatch("completions", started)

    async def embed(self, texts: Sequence[str]) -> tuple[list[Vector], dict[str, float]]:
        """Embeddings of several texts and the time they took; DeadlineExceeded when that is too long."""
        started = time.perf_counter()
        with span(EMBEDDER):
            found = await every(self.embedder.embed, texts, self.deadline_s)
        return found, stopwatch("embedder", started)

    async def checks(self) -> dict[str, bool]:
        """Readiness of each part, by what it says of itself *and* by a canary that no cache answers.

        Triton's own health endpoint answers 200 with a dead python stub (triton-inference-server/server issues 7230, 8604).
        """
        parts = {
            SPELLER: self._canary(SPELLER, partial(self.speller.correct, fresh=True)),
            EMBEDDER: self._canary(EMBEDDER, partial(self.embedder.embed, fresh=True)),
            "index": answers(self.index.count()),
        }
        return dict(zip(parts, await asyncio.gather(*parts.values()), strict=True))

    async def _canary(self, model: str, infer: Callable[[str], Awaitable[object]]) -> bool:
        return await self.backend.ready(model) and await answers(infer(CANARY))

    def forget(self) -> None:
        """Drop every cached answer: the models may be others now."""
        self.speller.cache.clear()
        self.embedder.cache.clear()
        self.search.forget()

    async def close(self) -> None:
        """Stop what it dispatches; the backend and the index belong to whoever opened them."""
        await self.speller.close()
        await self.embedder.close()


async def every(ask: Callable[[str], Awaitable[Result]], texts: Sequence[str], deadline_s: float) -> list[Result]:
    """What `ask` has for each text; DeadlineExceeded when that takes too long. A single text needs no task of its own."""
    late = f"no answer within {deadline_s:g} s"
    if len(texts) == 1:
        return [await within(ask(texts[0]), deadline_s, late)]
    return await within(gathered(asyncio.gather(*map(ask, texts))), deadline_s, late)


async def gathered(work: asyncio.Future[list[Result]]) -> list[Result]:
    try:
        return await work
    except asyncio.CancelledError:
        if work.done() and not work.cancelled():
            work.exception()  # `gather` keeps its cancellation as an error, and complains when nobody looks at it
        raise


async def answers(inference: Awaitable[object]) -> bool:
    try:
        await asyncio.wait_for(inference, 1.0)
    except (SearchbarError, asyncio.TimeoutError):
        return False
    return True


def stopwatch(stage: str, started: float) -> dict[str, float]:
    took = (time.perf_counter() - started) * 1000
    return {stage: took, "total": took}
