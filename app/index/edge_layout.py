"""How an embedded index is laid out; free of the engine, so that the command line can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Items up to which a query is compared with all of them instead of searching a graph: exact, nothing to build, and of int8
# vectors no slower for a few thousand (docs/scale.md: which settings).
FLAT = 32_768


@dataclass(frozen=True, slots=True)
class EdgeLayout:
    """How the vectors are stored and found.

    Attributes:
        quantisation: ``int8`` searches one byte a dimension, held in memory; the full vectors, on disk, score the best again.
        hnsw_m: edges of a node in the graph of an index of more than `FLAT` items.
        hnsw_ef_construct: neighbours considered when the graph is built.
    """

    quantisation: Literal["none", "int8"] = "int8"
    hnsw_m: int = 48
    hnsw_ef_construct: int = 100
