"""One search: what the speller makes of the query, retrieval of the readings that may be meant, one merged answer (ADR 30)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Protocol

from app.cache import AnswerCache
from app.catalogue_correction import offer
from app.domain import Correction, Filters, Hit, IndexQuery, SearchAnswer, Vector
from app.errors import IndexUnavailable
from app.fanout import FanOut
from app.index.base import VectorIndex
from app.text import fold, normalise

SPARE = 2  # searches under way up to which there is time to search what the speller may replace
PATIENCE = 0.1  # of the deadline: how long a query that may be replaced waits for the speller before it is searched as typed
MODEL_SHARE = 0.7  # of the deadline: what the models leave, the index has for an answer without them
RRF_K = 60  # reciprocal rank fusion's constant (Cormack, Clarke and Buettcher, SIGIR 2009)
FOLDED = 20_000  # names kept folded
SECOND_READING = 0.3  # weight of the reading that the search bar does not show results for


class SpellerPart(Protocol):
    async def correct(self, query: str) -> Correction:
        """See `speller.Speller.correct`."""

    def doubts(self, query: str) -> bool:
        """See `speller.Speller.doubts`."""


class EmbedderPart(Protocol):
    async def embed(self, text: str) -> Vector:
        """See `embedder.Embedder.embed`."""


class NamesPart(Protocol):
    def __call__(self, query: str) -> tuple[tuple[str, float], ...]:
        """See `near_names.NearNames`."""

    def begun(self, query: str) -> bool:
        """See `near_names.NearNames.begun`."""


Asked = tuple[str, int, Filters]
"""A normalised query, how many hits, and what they must meet: all that an answer depends on."""


class SearchService:
    """Merges spelling, embedding and retrieval; whatever is late or down is left out and named.

    Attributes:
        cache: what was asked → the answer, if it left nothing out; off when not given.
        readings: the same for the hits of a corrected reading alone: many misspellings of a name have one correction.

    Whoever changes the index, the lexicon or the models has it `forget` both.
    """

    def __init__(
        self,
        speller: SpellerPart,
        embedder: EmbedderPart,
        index: VectorIndex,
        names: NamesPart,
        *,
        deadline_s: float,
        cache: AnswerCache[Asked, SearchAnswer] | None = None,
        readings: AnswerCache[Asked, list[Hit]] | None = None,
        spare: int = SPARE,
    ) -> None:
        self.cache: AnswerCache[Asked, SearchAnswer] = AnswerCache(0) if cache is None else cache
        self.readings: AnswerCache[Asked, list[Hit]] = AnswerCache(0) if readings is None else readings
        self._speller = speller
        self._embedder = embedder
        self._index = index
        self._names = names
        self._deadline_s = deadline_s
        self._spare = spare
        self._under_way = 0

    async def search(self, query: str, limit: int, filters: Filters) -> SearchAnswer:
        """The best `limit` items for `query`: as typed, as corrected, or both.

        A query that is replaced is searched as corrected, and as typed where that leaves the page unfilled. Any other one is
        searched as typed, and a reading that is only suggested beside it. What begins a name may be unfinished: it is replaced
        by a reading that goes on from it alone, and a suggested one is not searched (ADR 30). While no more than `spare`
        searches are under way, the query as typed is searched before it is known whether it will be replaced.

        Raises:
            IndexUnavailable, DeadlineExceeded: the index did not answer, so nothing is left to show.
        """
        began = time.perf_counter()
        typed = normalise(query)
        if not typed:
            return SearchAnswer(query, Correction(typed, typed, False, 1.0, "none"), (), (), {})
        asked = typed, limit, filters
        if (known := self.cache.held(asked)) is not None:
            took_ms = (time.perf_counter() - began) * 1000
            return replace(known, query=query, timings_ms={"cache": took_ms, "total": took_ms})
        found = await self.cache.get(asked, partial(self._search, *asked), keep=lambda answer: not answer.degraded)
        return replace(found, query=query)

    def forget(self) -> None:
        """Drop every cached answer."""
        self.cache.clear()
        self.readings.clear()

    async def _search(self, typed: str, limit: int, filters: Filters) -> SearchAnswer:
        self._under_way += 1
        try:
            return await self._search_readings(typed, limit, filters)
        finally:
            self._under_way -= 1

    async def _search_readings(self, typed: str, limit: int, filters: Filters) -> SearchAnswer:
        begun = self._names.begun(fold(typed))
        async with FanOut(self._deadline_s) as parts:
            spelling = parts.start("speller", self._spell(typed, begun), MODEL_SHARE)
            waits = self._under_way > self._spare and self._speller.doubts(typed)
            if waits:
                await asyncio.wait([spelling], timeout=PATIENCE * self._deadline_s)
            as_typed = as_corrected = None
            if waits and spelling.done() and replaces(spelling.result()):
                as_corrected = await self._retrieve_corrected(parts, typed, spelling, limit, filters)
                if as_corrected is None or len(as_corrected) < limit:
                    as_typed, _ = await self._retrieve(parts, typed, limit, filters, near=True)
            else:
                (as_typed, _), as_corrected = await asyncio.gather(
                    self._retrieve(parts, typed, limit, filters, near=True),
                    self._retrieve_corrected(parts, typed, spelling, limit, filters, suggested=not begun),
                )
            correction = await spelling
        if as_typed is None and as_corrected is None:
            raise parts.failures.get("index") or IndexUnavailable("the index did not answer")
        if replaces(correction) and as_corrected is not None and len(as_corrected) >= limit:
            as_typed = None  # the same answer whether there was time for it or not
        hits = merge(as_typed or [], as_corrected or [], correction)[:limit]
        return SearchAnswer(typed, offer(typed, correction, hits), hits, tuple(parts.degraded), parts.timings_ms)

    async def _spell(self, typed: str, begun: bool) -> Correction:
        """What the speller makes of `typed`, which it does not replace by another beginning where this one may be meant."""
        correction = await self._speller.correct(typed)
        if begun and replaces(correction) and not fold(correction.corrected).startswith(fold(typed)):
            return replace(correction, action="suggest")
        return correction

    async def _retrieve_corrected(
        self,
        parts: FanOut,
        typed: str,
        spelling: asyncio.Task[Correction | None],
        limit: int,
        filters: Filters,
        *,
        suggested: bool = True,
    ) -> list[Hit] | None:
        """The hits for what the speller makes of `typed`, where that is another reading that replaces it or is `suggested`."""
        correction = await spelling
        if correction is None or fold(correction.corrected) == fold(typed) or not (suggested or replaces(correction)):
            return None
        asked = fold(correction.corrected), limit, filters
        if (known := self.readings.held(asked, noted=False)) is not None:  # the span is of the whole search
            return known
        self.readings.misses += 1
        since = self.readings.cleared
        found, whole = await self._retrieve(parts, correction.corrected, limit, filters)
        if found is not None and whole:
            self.readings.hold(asked, found, since)
        return found

    async def _retrieve(
        self, parts: FanOut, text: str, limit: int, filters: Filters, *, near: bool = False
    ) -> tuple[list[Hit] | None, bool]:
        """Hits for one reading, and whether its embedding was there; by words alone without it. None without the index.

        With `near` also what bears a name that the reading is half of or misspelt from: for what was typed.
        """
        embedding = parts.start("embedder", self._embedder.embed(text), MODEL_SHARE)
        await asyncio.sleep(0)  # the models are asked before names are looked for
        names = self._names(fold(text)) if near else None
        vector = await embedding
        found = await parts.start("index", self._index.query([IndexQuery(fold(text), vector, limit, filters, names)]))
        return None if found is None else found[0], vector is not None


def replaces(correction: Correction | None) -> bool:
    """Whether the search bar shows results for another reading than the one typed."""
    return correction is not None and correction.action == "replace"


def merge(as_typed: Sequence[Hit], as_corrected: Sequence[Hit], correction: Correction | None) -> list[Hit]:
    """Both readings' hits by weighted reciprocal rank fusion, each item once.

    The reading that the search bar shows results for weighs 1, the other `SECOND_READING`. The same recording on several albums
    is one hit: the best placed.
    """
    if not as_corrected:
        return distinct(as_typed)
    replaced = correction is not None and correction.action != "suggest"  # mended spaces need no telling
    weights = (SECOND_READING, 1.0) if replaced else (1.0, SECOND_READING)
    scores: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for weight, found, source in zip(weights, (as_typed, as_corrected), ((), ("correction",)), strict=True):
        for rank, hit in enumerate(found):
            known = hits.get(hit.item.id)
            scores[hit.item.id] = scores.get(hit.item.id, 0.0) + weight / (RRF_K + rank)
            matched = dict.fromkeys((*(known.matched_by if known else ()), *hit.matched_by, *(source if not known else ())))
            hits[hit.item.id] = Hit(hit.item, hit.score, tuple(matched))
    ranked = sorted(hits.values(), key=lambda hit: -scores[hit.item.id])
    return distinct([Hit(hit.item, scores[hit.item.id], hit.matched_by) for hit in ranked])


def distinct(hits: Sequence[Hit]) -> list[Hit]:
    """`hits` without later ones of the same kind, title and artist."""
    seen: dict[tuple[str, str, str], Hit] = {}
    for hit in hits:
        seen.setdefault((hit.item.kind, folded(hit.item.title), folded(hit.item.artist)), hit)
    return list(seen.values())


folded = lru_cache(FOLDED)(fold)
"""`fold`, for names of the catalogue: the same few come again and again."""
