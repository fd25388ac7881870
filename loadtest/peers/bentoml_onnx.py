"""(d) BentoML: its adaptive batching around the int8 graph. PEER_WORKERS processes."""

from __future__ import annotations

import os

import bentoml
import numpy as np
from onnx_embedder import Embedder


@bentoml.service(
    workers=int(os.environ.get("PEER_WORKERS", "1")),
    logging={"access": {"enabled": False}},  # a line for every request, which the other servers do not write either
)
class Embed:
    def __init__(self) -> None:
        self.embedder = Embedder()

    @bentoml.api(
        batchable=True,
        max_batch_size=int(os.environ.get("PEER_BATCH", "32")),
        max_latency_ms=int(os.environ.get("PEER_LATENCY_MS", "1000")),  # beyond it requests are refused
    )
    def embed(self, queries: list[str]) -> np.ndarray:
        return self.embedder(queries)
