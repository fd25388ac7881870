"""Matryoshka embeddings (Kusupati et al. 2022): the first dimensions of a vector are a shorter embedding of their own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def shorten(vectors: npt.NDArray[np.float32], dimensions: int) -> npt.NDArray[np.float32]:
    """The first `dimensions` of L2-normalised vectors [..., n], normalised again; vectors of that length as they are.

    Raises:
        ValueError: the vectors are shorter than that.
    """
    if vectors.shape[-1] < dimensions:
        raise ValueError(f"vectors of {vectors.shape[-1]} dimensions cannot be shortened to {dimensions}")
    if vectors.shape[-1] == dimensions:
        return vectors
    first = vectors[..., :dimensions]
    return np.asarray(first / np.maximum(np.linalg.norm(first, axis=-1, keepdims=True), 1e-12), np.float32)
