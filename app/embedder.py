"""Query embeddings from Triton's `embedder` ensemble."""

from __future__ import annotations

import numpy as np

from app.coalesce import Coalescer
from app.domain import Vector
from app.inference import InferenceBackend, text_tensor
from app.text import fold

MODEL = "embedder"
MAX_BATCH = 128  # max_batch_size in triton/models/embedder*


class Embedder:
    """Texts → L2-normalised float32 vectors, concurrent requests coalesced."""

    def __init__(self, backend: InferenceBackend, *, timeout_s: float, max_in_flight: int, max_queue: int) -> None:
        self._backend = backend
        self._timeout_s = timeout_s
        self._calls = Coalescer(self.embed_batch, max_batch=MAX_BATCH, max_in_flight=max_in_flight, max_queue=max_queue)

    async def embed(self, text: str) -> Vector:
        """The embedding of one text, float32 [dimensions].

        Raises:
            ModelUnavailable, Overloaded, DeadlineExceeded, ModelFailed: see `InferenceBackend.infer`.
        """
        return await self._calls.submit(fold(text))

    async def embed_batch(self, texts: list[str]) -> list[Vector]:
        """Embeddings of at most `MAX_BATCH` folded texts in one call."""
        answer = await self._backend.infer(MODEL, {"QUERY": text_tensor([[t] for t in texts])}, ["EMBEDDING"], self._timeout_s)
        return list(np.asarray(answer["EMBEDDING"], np.float32))

    async def close(self) -> None:
        await self._calls.close()
