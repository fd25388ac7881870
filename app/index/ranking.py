"""From the sides' ranked lists to hits: fusion, then what retrieval scores cannot know. Pure functions.

The order of an answer is the sum of

1. the fused score of the sides, 0–1 (distribution-based fusion, see `SIDE_WEIGHTS`);
2. a name boost: an item that bears the very name typed comes before everything that does not, an item by the artist typed
   before everything that is merely near, a nearly equal name and one that the query may stand for are lifted in proportion;
   a query that no name resembles is a description, and gets no such boost (`naming`, ADR 17);
3. a popularity prior: small where a name is typed, decisive among items of the same name, and large where a mood is described,
   which many songs fit about as well.

How it began, measured on the demo catalogue (3 250 items; 250 names each as title, artist and both, clean and with one typo,
title prefixes, 50 mood queries) with a prototype of this ranking and *simulated* query embeddings (the right items' own vectors
plus noise, so the mood figures flatter the embedder); weights were chosen on the same queries. First hit right / within ten:
names alone find 86/96 % of misspelt titles and 14/15 % of mood queries; the embedding alone 65/91 % and 98/95 %; plain RRF
of the two 95/100 % and 92/66 %. With tags, these weights and the name boost: DBSF 98/100 % and 98/96 %,
RRF (k = 20) 98/100 % and 96/97 %. DBSF also lost less when the embedding was replaced by noise (misspelt titles 91 against
89 %, prefixes 84 against 79 %), so DBSF it is. Without a query embedding: misspelt titles 96/98 %, mood queries 54/42 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.process import cdist

from app.domain import Hit, IndexQuery
from app.index.entry import Entry
from app.index.fusion import Ranked, dbsf
from app.index.ngrams import words
from app.index.schema import name_key

Names = Sequence[tuple[str, float]] | None  # see `IndexQuery.names`

OVER_FETCH = 4  # candidates of a side for each hit asked for
MIN_CANDIDATES = 50
SIDE_WEIGHTS = (0.45, 0.35, 0.2)  # meaning, name, tags: of a query that is surely a name
DESCRIBING_WEIGHTS = (0.9, 0.03, 0.07)  # of one that surely is none
SURELY_NO_NAME, SURELY_NAME = 0.6, 0.75  # likelihood of the likeliest name
SIDE_WEIGHTS_WITHOUT_MEANING = (0.0, 0.4, 0.6)  # tags stand in for the embedding

SAME_TITLE = 2.0  # more than the fused score, a near name and popularity can reach together
SAME_ARTIST = 1.65
NEAR_NAME = 0.5
NEAR_FROM = 0.6  # similarity (Indel, 0–1) from which a name counts as near
NEAR_WORD = 80.0  # similarity (Indel, 0–100) from which two words count as one misspelt
PREFIX_SIMILARITY = 0.85  # of a name that begins with the query: search as you type
LIKELY_TITLE = 1.6
LIKELY_ARTIST = 1.4
BEGUN_ARTIST = 0.6  # one whose name begins with the query: titles that begin so are as likely meant
SAME_TITLED, BY_SAME_ARTIST = 3, 7  # items on a page of hits that bear the very name typed
PAGE = 10
COMPARED = 65_536  # pairs of words whose likeness is remembered
POPULARITY = 0.1  # where the query is surely a name
POPULARITY_DESCRIBED = 0.2  # where it surely is none (docs/adr/0017-near-names.md)
POPULARITY_OF_SAME_NAME = 0.4


@dataclass(frozen=True, slots=True)
class Sides:
    """What each side of the index found for one query, best first; a side that was not asked is empty."""

    meaning: Ranked = ()
    name: Ranked = ()
    tags: Ranked = ()
    same_name: Ranked = ()  # items that bear the very name typed, most popular first
    titled: Ranked = ()  # items with a title that the query may stand for, most popular first
    played_by: Ranked = ()  # items by an artist that the query may stand for, most popular first

    @property
    def named(self) -> Ranked:
        """What bears the query's name or one that it may stand for."""
        return (*self.same_name, *self.titled, *self.played_by)


def naming(sides: Sides, names: Names) -> float:
    """How surely a query is a name of the catalogue, 0–1, rather than a description.

    It is taken for a name where names were not looked for, and where there is no embedding to follow instead.
    """
    if names is None or sides.same_name or not sides.meaning:
        return 1.0
    likeliest = max((likelihood for _, likelihood in names), default=0.0)
    return min(max((likeliest - SURELY_NO_NAME) / (SURELY_NAME - SURELY_NO_NAME), 0.0), 1.0)


def side_weights(sides: Sides, names: Names) -> Sequence[float]:
    """What meaning, name and tags count for a query that may stand for `names`: words weigh little where it describes."""
    if not sides.meaning:
        return SIDE_WEIGHTS_WITHOUT_MEANING
    share = naming(sides, names)
    return [share * name + (1.0 - share) * none for name, none in zip(SIDE_WEIGHTS, DESCRIBING_WEIGHTS, strict=True)]


def shortlist(sides: Sides, size: int, names: Names = None) -> dict[int, float]:
    """The `size` best points by fused score, and every one that bears the query's name or one that it may stand for."""
    fused = dbsf((sides.meaning, sides.name, sides.tags), side_weights(sides, names))
    best = sorted(fused, key=fused.__getitem__, reverse=True)[:size]
    return {point: fused.get(point, 0.0) for point in (*best, *(p for p, _ in sides.named))}


def nearness(query_key: str, entries: Sequence[Entry]) -> list[float]:
    """How like the query each entry's nearest name is, 0–1, and 0 up to `NEAR_FROM`; all names are compared in one call."""
    names = [name for entry in entries for name in entry.names]
    if not names:
        return []
    likeness = cdist([query_key], names, scorer=fuzz.ratio, score_cutoff=100.0 * NEAR_FROM, dtype=np.float64)[0] / 100.0
    if len(query_key) >= 3:
        begun = [at for at, name in enumerate(names) if name.startswith(query_key)]
        likeness[begun] = np.maximum(likeness[begun], PREFIX_SIMILARITY)
    starts = np.cumsum([0, *[len(entry.names) for entry in entries[:-1]]])
    best: list[float] = np.maximum.reduceat(likeness, starts).tolist()
    return best


def name_boost(query_key: str, entry: Entry, near: float) -> float:
    """How much the item's names speak for it, 0–2.4.

    Args:
        query_key: `name_key` of the query.
        near: `nearness` of the entry.
    """
    if not query_key:
        return 0.0
    if query_key in entry.title_names:
        return SAME_TITLE + POPULARITY_OF_SAME_NAME * entry.popularity / 100.0
    if query_key in entry.artist_names:
        return SAME_ARTIST + POPULARITY_OF_SAME_NAME * entry.popularity / 100.0
    return NEAR_NAME * (near - NEAR_FROM) / (1.0 - NEAR_FROM) if near > NEAR_FROM else 0.0


def likely_boost(query_key: str, names: Mapping[str, float], entry: Entry) -> float:
    """How much the likelihoods of the item's names speak for it, 0–`LIKELY_TITLE`.

    Args:
        query_key: `name_key` of the query.
        names: likelihood by `name_key`.
    """
    if names.keys().isdisjoint(entry.names):
        return 0.0
    titles = [LIKELY_TITLE * names[name] for name in entry.title_names if name in names]
    artists = [
        (BEGUN_ARTIST if name.startswith(query_key) else LIKELY_ARTIST) * names[name]
        for name in entry.artist_names
        if name in names
    ]
    return max(titles + artists)


def varied(key: str, order: Sequence[int], entries: Mapping[int, Entry], limit: int) -> list[int]:
    """The first `limit` of `order` with few items of one name on each page of `PAGE`: the others of that name come after it.

    Half a name is often a whole one too (`happy`, of `happy together`; `kansas`, of `kansas city`): of the items that bear the
    very name typed, `SAME_TITLED` by their title and `BY_SAME_ARTIST` by their artist share a page with others; of any other
    title there is one.
    """
    found: list[int] = []
    left = list(order)
    while left and len(found) < limit:
        page: list[int] = []
        rest: list[int] = []
        borne: Counter[str] = Counter()
        for at, point in enumerate(left):
            title, artists = entries[point].title_names[0], entries[point].artist_names
            by_artist = title != key and key in artists
            name = key if by_artist else title
            borne[name] += 1
            most = BY_SAME_ARTIST if by_artist else SAME_TITLED if title == key else 1
            (rest if borne[name] > most else page).append(point)
            if len(page) == PAGE:
                rest += left[at + 1 :]
                break
        else:  # nothing is left to mix them with
            return [*found, *page, *rest][:limit]
        found += page
        left = rest
    return found[:limit]


def rank(query: IndexQuery, sides: Sides, fused: Mapping[int, float], entries: Mapping[int, Entry]) -> list[Hit]:
    """The `query.limit` best hits, best first; ties fall to the more popular, then to the smaller id.

    Args:
        fused: the shortlist's fused scores.
        entries: of each point of the shortlist.
    """
    key = name_key(query.text)
    names = {name_key(name): likelihood for name, likelihood in reversed(query.names or ())}
    share = naming(sides, query.names)
    fame = share * POPULARITY + (1.0 - share) * POPULARITY_DESCRIBED
    scores = {}
    for (point, entry), near in zip(entries.items(), nearness(key, list(entries.values())), strict=True):
        boost = max(name_boost(key, entry, near), likely_boost(key, names, entry))
        scores[point] = fused[point] + share * boost + fame * entry.popularity / 100.0
    order = sorted(scores, key=lambda point: (-scores[point], -entries[point].popularity, entries[point].id))
    order = varied(key, order, entries, query.limit)
    asked = AskedWords(words(query.text))
    by_words = {point for side in (sides.name, sides.tags, sides.named) for point, _ in side}
    by_meaning = {point for point, _ in sides.meaning}
    hits: list[Hit] = []
    for point in order:
        matched = asked.named_by(*entries[point].words)
        matched += ("text",) * (point in by_words) + ("meaning",) * (point in by_meaning)
        hits.append(Hit(entries[point].item, scores[point], matched))
    return hits


class AskedWords:
    """A query's words, and which names hold them."""

    def __init__(self, query_words: Sequence[str]) -> None:
        """Args: folded words."""
        self._words = query_words
        self._joined = "".join(query_words)

    def named_by(self, title_words: Sequence[str], artist_words: Sequence[str]) -> tuple[str, ...]:
        """Which of ``title`` and ``artist`` the query names: each of its words must be in one of them, or nearly so.

        A name counts when it holds a word that the other does not, or when it alone holds them all. Spaces may lie elsewhere.
        All words are folded.
        """
        all_title, all_artist = self._joined == "".join(title_words), self._joined == "".join(artist_words)
        by_title = by_artist = False
        for at, word in enumerate(self._words):
            in_title = all_title or word in title_words or self._nearly(at, title_words)
            in_artist = all_artist or word in artist_words or self._nearly(at, artist_words)
            if not (in_title or in_artist):
                return ()
            by_title |= in_title > in_artist
            by_artist |= in_artist > in_title
        if by_title or by_artist:
            return ("title",) * by_title + ("artist",) * by_artist
        return ("title", "artist") if self._words else ()  # each holds them all

    def _nearly(self, at: int, name_words: Sequence[str]) -> bool:
        """Whether one of these words is nearly the query's word at `at`; its last one may be unfinished."""
        word, unfinished = self._words[at], at == len(self._words) - 1
        for other in name_words:  # noqa: SIM110 (no generator for two or three words, thousands of times a second)
            if _same(word, other, unfinished):
                return True
        return False


@lru_cache(COMPARED)
def _same(query_word: str, name_word: str, unfinished: bool) -> bool:
    if unfinished and len(query_word) >= 3 and name_word.startswith(query_word):
        return True
    return len(query_word) > 3 and fuzz.ratio(query_word, name_word, score_cutoff=NEAR_WORD) >= NEAR_WORD
