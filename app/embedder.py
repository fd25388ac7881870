"""Query embeddings from Triton's `embedder` ensemble."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from app.cache import AnswerCache
from app.coalesce import Coalescer
from app.domain import Vector
from app.inference import InferenceBackend, text_tensor
from app.text import fold

MODEL = "embedder"
MAX_BATCH = 128  # max_batch_size in triton/models/embedder*
BATCH = 32  # of queries that wait: larger ones cost more a query (docs/adr/0023-packed-embedder.md)


class Embedder:
    """Texts → L2-normalised float32 vectors, concurrent requests coalesced; `observe` as `Coalescer`'s.

    Attributes:
        cache: folded text → its embedding; off when not given.
    """

    def __init__(
        self,
        backend: InferenceBackend,
        *,
        timeout_s: float,
        max_in_flight: int,
        max_queue: int,
        cache: AnswerCache[str, Vector] | None = None,
        observe: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.cache: AnswerCache[str, Vector] = AnswerCache(0) if cache is None else cache
        self._backend = backend
        self._timeout_s = timeout_s
        self._calls = Coalescer(
            self.embed_batch, max_batch=BATCH, max_in_flight=max_in_flight, max_queue=max_queue, observe=observe
        )

    async def embed(self, text: str, *, fresh: bool = False) -> Vector:
        """The embedding of one text, float32 [dimensions], read-only; `fresh` asks the model whatever the cache holds.

        Raises:
            ModelUnavailable, Overloaded, DeadlineExceeded, ModelFailed: see `InferenceBackend.infer`.
        """
        folded = fold(text)
        ask = partial(self._ask, folded)
        return await (ask() if fresh else self.cache.get(folded, ask))

    async def _ask(self, folded: str) -> Vector:
        vector = (await self._calls.submit(folded)).copy()  # a view would keep the whole batch in memory
        vector.setflags(write=False)
        return vector

    async def embed_batch(self, texts: list[str]) -> list[Vector]:
        """Embeddings of at most `MAX_BATCH` folded texts in one call."""
        answer = await self._backend.infer(MODEL, {"QUERY": text_tensor([[t] for t in texts])}, ["EMBEDDING"], self._timeout_s)
        return list(np.asarray(answer["EMBEDDING"], np.float32))

    async def close(self) -> None:
        await self._calls.close()
