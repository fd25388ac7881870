"""The nouns of the service, free of HTTP, Triton and Qdrant: what the layers hand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["track", "album", "artist", "podcast", "playlist"]
KINDS: tuple[Kind, ...] = ("track", "album", "artist", "podcast", "playlist")

Action = Literal["replace", "suggest", "none"]

Vector = npt.NDArray[np.float32]
"""An L2-normalised query or item embedding, float32 [dimensions]."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another reading of a query and the probability that it is the one meant, 0–1."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Correction:
    """What the speller makes of one query.

    Attributes:
        query: the normalised query.
        corrected: the best reading, lower case; equal to `query` when nothing better is known.
        changed: False for differences of case, spacing or diacritics alone.
        confidence: calibrated probability that `corrected` is what was meant, 0–1.
        action: ``replace`` (search the correction and say so), ``suggest`` (did you mean) or ``none``; ``none`` exactly when
            `changed` is False.
        alternatives: the runners-up, most probable first.
    """

    query: str
    corrected: str
    changed: bool
    confidence: float
    action: Action
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One catalogue row. Only `title` is required of a source file; `extra` holds its unknown columns."""

    id: str
    title: str
    kind: Kind = "track"
    artist: str = ""
    album: str = ""
    year: int | None = None
    genres: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()
    popularity: float = 0.0  # 0–100
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions every hit must meet; an empty one holds for all."""

    kinds: tuple[Kind, ...] = ()
    genres: tuple[str, ...] = ()  # any of
    year_gte: int | None = None
    year_lte: int | None = None


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """One question to the vector index.

    Attributes:
        text: folded text for the sparse side; empty for a dense query alone.
        vector: dense query embedding, or None for a sparse query alone.
        names: (folded name, likelihood 0–1) of names of the catalogue that the text may stand for, misspelt or half typed; None
            when they were not looked for.
    """

    text: str
    vector: Vector | None
    limit: int
    filters: Filters = Filters()
    names: tuple[tuple[str, float], ...] | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """An item that matches, its score (higher is better, comparable within one answer only) and what found it."""

    item: Item
    score: float
    matched_by: tuple[str, ...]  # of "title", "artist", "text", "meaning", "correction"


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The merged answer to one search."""

    query: str
    correction: Correction | None  # None when the speller is degraded and the best hit's name is not near
    hits: Sequence[Hit]
    degraded: tuple[str, ...]  # of "speller", "embedder", "index"
    timings_ms: dict[str, float]
