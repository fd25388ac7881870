"""How an embedded index is laid out; free of the engine, so that the command line can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Items up to which a query is compared with all of them in full: exact, and there is nothing to build.
FLAT = 32_768


@dataclass(frozen=True, slots=True)
class EdgeLayout:
    """How the vectors are stored.

    Attributes:
        quantisation: ``int8`` compares one byte a dimension, held in memory; the full vectors, on disk, score the best again.
    """

    quantisation: Literal["none", "int8"] = "int8"
