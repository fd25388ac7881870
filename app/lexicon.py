"""The catalogue's words and names in memory: which readings of a query exist, found in well under a millisecond.

A model alone does not know a name added this morning, and a lexicon alone does not know which name was meant; so the lexicon
proposes and the speller's model judges (`speller.py`). Both lookups are inverted indices of character n-grams over NumPy
arrays: a query's postings are added up with one `bincount`, and the best few are compared letter by letter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA, JaroWinkler

from app.domain import Item
from app.text import fold

SHORTLIST = 24  # entries compared letter by letter
MAX_WORD_DISTANCE = 3
MIN_NAME_SIMILARITY = 0.6
# Words of queries about any catalogue.
COMMON_WORDS = (
    "song", "songs", "track", "tracks", "music", "album", "albums", "artist", "artists", "band", "podcast", "podcasts",
    "playlist", "playlists", "hits", "best",
)  # fmt: skip


def ngrams(text: str, sizes: Sequence[int]) -> set[str]:
    """Distinct character n-grams of each word with `^` and `$` at its ends: order of words does not matter."""
    grams: set[str] = set()
    for word in text.split():
        marked = f"^{word}$"
        for n in sizes:
            grams.update(marked[i : i + n] for i in range(max(len(marked) - n + 1, 1)))
    return grams


class NgramLookup:
    """Nearest of many short texts by shared n-grams, weighted by rarity (cosine over IDF weights)."""

    def __init__(self, texts: Sequence[str], sizes: Sequence[int]) -> None:
        self.texts = texts
        self.sizes = sizes
        ids: dict[str, int] = {}
        flat: list[int] = []
        owners: list[int] = []
        for owner, text in enumerate(texts):
            for gram in ngrams(text, sizes):
                flat.append(ids.setdefault(gram, len(ids)))
                owners.append(owner)
        self._ids = ids
        order = np.argsort(np.asarray(flat, np.int32), kind="stable")
        self._postings: npt.NDArray[np.int32] = np.asarray(owners, np.int32)[order]
        counts = np.bincount(np.asarray(flat, np.int64), minlength=len(ids)) if flat else np.zeros(0, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._idf = np.log(1.0 + len(texts) / np.maximum(counts, 1)).astype(np.float32)
        squares = np.zeros(len(texts), np.float64)
        if flat:
            np.add.at(squares, owners, self._idf[np.asarray(flat)] ** 2)
        self._norms = np.sqrt(np.maximum(squares, 1e-9)).astype(np.float32)

    def nearest(self, text: str, limit: int) -> list[int]:
        """Positions of the `limit` texts that share most with `text`, best first."""
        grams = [self._ids[g] for g in ngrams(text, self.sizes) if g in self._ids]
        if not grams:
            return []
        spans = [self._postings[self._starts[g] : self._starts[g + 1]] for g in grams]
        weights = np.repeat(self._idf[grams] ** 2, [len(span) for span in spans])
        scores = np.bincount(np.concatenate(spans), weights, minlength=len(self.texts)) / self._norms
        best = np.argpartition(scores, -limit)[-limit:] if limit < len(scores) else np.arange(len(scores))
        return [int(i) for i in best[np.argsort(-scores[best], kind="stable")] if scores[i] > 0]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible reading of a query and where it comes from: ``name`` or ``words``."""

    text: str
    source: str


class Lexicon:
    """Words and names of a catalogue, immutable; a changed catalogue gets a new one.

    Args:
        items: catalogue rows. Titles, artists and "title artist" pairs are names; their words, and those of genres and moods,
            are the words.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        names: Counter[str] = Counter()
        pairs: Counter[str] = Counter()
        words: Counter[str] = Counter()
        for item in items:
            fame = 1.0 + item.popularity / 10
            title, artist = fold(item.title), fold(item.artist)
            for name in {title, artist} - {""}:
                names[name] += fame  # type: ignore[assignment]
                for word in name.split():
                    words[word] += fame  # type: ignore[assignment]
            for word in fold(" ".join((*item.genres, *item.moods))).split():
                words[word] += 1
            if title and artist and title != artist and item.kind != "podcast":
                pairs[f"{title} {artist}"] += fame  # type: ignore[assignment]
                pairs[f"{artist} {title}"] += 0  # the other order is a name too, proposed through the first
        for word in COMMON_WORDS:
            words[word] += 10
        self.words = dict(words)
        self.names = {**pairs, **names}
        self._log_top = math.log(1 + max(words.values(), default=1))
        self._word_lookup = NgramLookup(list(words), (2, 3))
        self._name_lookup = NgramLookup([*names, *(p for p, fame in pairs.items() if fame)], (3,))

    def is_name(self, text: str) -> bool:
        """Whether folded `text` is exactly a title, an artist or a pair of both in either order."""
        return text in self.names

    def word_fame(self, word: str) -> float:
        """Fame-weighted frequency of a folded word on a log scale, 0 (unknown) to 1 (the catalogue's most frequent)."""
        return math.log(1 + self.words.get(word, 0)) / self._log_top

    def candidates(self, query: str, limit: int) -> list[Candidate]:
        """At most `limit` readings of folded `query` other than itself, likeliest first by spelling alone."""
        named = self._near_names(query)
        worded = self._near_words(query)
        found: dict[str, Candidate] = {}
        for pair in zip([*named, *[None] * len(worded)], [*worded, *[None] * len(named)], strict=False):
            for candidate in pair:
                if candidate and candidate.text != query:
                    found.setdefault(candidate.text, candidate)
        return list(islice(found.values(), limit))

    def _near_names(self, query: str) -> list[Candidate]:
        scored = []
        for i in self._name_lookup.nearest(query, SHORTLIST):
            name = self._name_lookup.texts[i]
            likeness = OSA.normalized_similarity(query, name)
            if name not in self.words and likeness < MIN_NAME_SIMILARITY:  # a pair may have been typed artist first
                name, likeness = self._turned(query, name, likeness)
            if likeness >= MIN_NAME_SIMILARITY:
                scored.append((likeness + 0.01 * math.log1p(self.names.get(name, 0)), name))
        scored.sort(reverse=True)
        return [Candidate(name, "name") for _, name in scored[:4]]

    def _turned(self, query: str, name: str, likeness: float) -> tuple[str, float]:
        """`name` with its words rotated as `query` has them, if that is nearer and a name too."""
        words = name.split()
        for cut in range(1, len(words)):
            turned = " ".join(words[cut:] + words[:cut])
            if turned in self.names and (score := OSA.normalized_similarity(query, turned)) > likeness:
                name, likeness = turned, score
        return name, likeness

    def _near_words(self, query: str) -> list[Candidate]:
        """The query with its unknown (and, failing that, its rare) words replaced by near ones, best combinations first."""
        tokens = query.split()
        if not tokens or len(tokens) > 12:
            return []
        options = [self._word_options(token) for token in tokens]
        changed = [(sum(cost for _, cost in combo), " ".join(w for w, _ in combo)) for combo in islice(product(*options), 64)]
        changed.sort()
        return [Candidate(text, "words") for _, text in changed if text != query][:4]

    def _word_options(self, token: str) -> list[tuple[str, float]]:
        """(word, cost) choices for one token: itself and up to three near catalogue words."""
        known = token in self.words
        keep = (token, 0.6 - self.word_fame(token) if known else 2.5)
        if len(token) < 3 or (known and self.word_fame(token) > 0.35) or any(c.isdigit() for c in token):
            return [(token, 0.0)]
        allowed = 1 if len(token) < 5 or known else 2 if len(token) < 8 else MAX_WORD_DISTANCE
        near = []
        for i in self._word_lookup.nearest(token, SHORTLIST):
            word = self._word_lookup.texts[i]
            distance = OSA.distance(token, word, score_cutoff=allowed)
            if 0 < distance <= allowed:
                cost = distance - self.word_fame(word) - JaroWinkler.similarity(token, word)
                near.append((word, cost + 1.0))
        near.sort(key=lambda option: option[1])
        return [*near[:3], keep] if not known else [keep, *near[:2]]
