"""What both ways to Triton share: tensors in the layout of KServe's v2 protocol, and what its failures mean."""

from __future__ import annotations

import struct

import numpy as np

from app.errors import DeadlineExceeded, ModelFailed, ModelUnavailable, Overloaded, SearchbarError
from app.inference import Array

UNHEALTHY = "is not healthy"  # Triton's words for a stub of the python backend that does not answer it any more
_DTYPES = {"FP32": np.float32, "FP16": np.float16, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_, "UINT8": np.uint8}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def pack(array: Array) -> tuple[str, bytes]:
    """The protocol's name for the type of `array`, and its raw contents."""
    if array.dtype == np.object_:
        return "BYTES", pack_text(array)
    return _NAMES[array.dtype], np.ascontiguousarray(array).tobytes()


def pack_text(array: Array) -> bytes:
    """The layout of BYTES: each element as a little-endian uint32 length and its bytes, row by row."""
    return b"".join(struct.pack("<I", len(item)) + item for item in array.flat)


def unpack(datatype: str, shape: tuple[int, ...], raw: bytes) -> Array:
    """One tensor from its raw contents: a read-only view of them, or for BYTES an object array."""
    if datatype != "BYTES":
        return np.frombuffer(raw, _DTYPES[datatype]).reshape(shape)
    items, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        items.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    tensor = np.empty(len(items), dtype=np.object_)
    tensor[:] = items
    return tensor.reshape(shape)


def failure(model: str, details: str, *, full: bool = False, late: bool = False, away: bool = False) -> SearchbarError:
    """The one table from what Triton says to the service's errors.

    Args:
        details: in Triton's words, which tell more than its statuses.
        full, late, away: what the status says: a queue is full, the time is over, the server or the model is not there.
    """
    if full or "Exceeds maximum queue size" in details:
        return Overloaded(f"{model}: queue full")
    if late or "Request timeout expired" in details:
        return DeadlineExceeded(f"{model}: no answer in time")
    if away or "Stub process" in details or "is not ready" in details:
        return ModelUnavailable(f"{model}: unavailable ({details})")
    return ModelFailed(f"{model}: {details}")
