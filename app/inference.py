"""What the service asks of an inference server, whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class InferenceBackend(Protocol):
    """A server of named models over named tensors: `TritonHttp`, `TritonClient`, `SageMakerBackend`, `FakeTriton`."""

    async def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, Array]:
        """Run `model` once. Text tensors are object arrays of bytes.

        Raises:
            ModelUnavailable: the server or the model is away.
            Overloaded: the model's queue is full.
            DeadlineExceeded: no answer within `timeout_s`.
            ModelFailed: the model reported an error.
        """

    async def ready(self, model: str) -> bool:
        """Whether the server says that `model` takes requests."""

    async def close(self) -> None:
        """Close connections. Idempotent."""


def text_tensor(rows: Sequence[Sequence[str]]) -> Array:
    """A text tensor [len(rows), width] of UTF-8 bytes; short rows are filled with empty texts."""
    width = max(len(row) for row in rows)
    tensor = np.full((len(rows), width), b"", dtype=np.object_)
    for r, row in enumerate(rows):
        for c, text in enumerate(row):
            tensor[r, c] = text.encode()
    return tensor
