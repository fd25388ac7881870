"""KServe v2's binary form over HTTP, as Triton's SageMaker front end speaks it.

A body is a JSON header followed by the tensors' bytes; the content type gives the header's length
(https://github.com/triton-inference-server/server/blob/main/src/sagemaker_server.cc).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from app.errors import ModelFailed
from app.inference import Array
from app.kserve import pack_text, unpack

BINARY = "application/vnd.sagemaker-triton.binary+json;json-header-size="


def pack(inputs: Mapping[str, Array], outputs: Sequence[str]) -> tuple[bytes, bytes]:
    """Header and tensor bytes of a request that wants its outputs as bytes too."""
    described, raw = [], []
    for name, array in inputs.items():
        data = pack_text(array) if array.dtype == np.object_ else np.ascontiguousarray(array).tobytes()
        described.append(
            {
                "name": name,
                "shape": array.shape,
                "datatype": datatype(array),
                "parameters": {"binary_data_size": len(data)},
            }
        )
        raw.append(data)
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    return json.dumps({"inputs": described, "outputs": wanted}).encode(), b"".join(raw)


def datatype(array: Array) -> str:
    """KServe's name of an array's type, e.g. ``FP32``."""
    kind = {"O": "BYTES", "b": "BOOL", "f": "FP", "i": "INT", "u": "UINT"}[array.dtype.kind]
    return kind if array.dtype.kind in "Ob" else f"{kind}{array.dtype.itemsize * 8}"


def read(content_type: str, body: bytes) -> dict[str, Array]:
    """The tensors of an answer; ModelFailed when it is none."""
    try:
        if not content_type.startswith(BINARY):
            raise ValueError(f"content type {content_type!r}")
        size = int(content_type[len(BINARY) :])
        found: dict[str, Array] = {}
        at = size
        for tensor in json.loads(body[:size])["outputs"]:
            end = at + int(tensor["parameters"]["binary_data_size"])
            found[tensor["name"]] = unpack(tensor["datatype"], tuple(tensor["shape"]), body[at:end])
            at = end
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelFailed(f"the endpoint's answer is not Triton's: {exc}") from exc
    return found
