"""What a search team would drop in instead, over the same catalogue: SymSpell and the nearest name by rapidfuzz.

Each was given its better settings on 293 real misspellings (rapidfuzz: 60) and 60 one-edit typos over the large catalogue.
SymSpell: counts of words as they stand in names (57.3 % and 58.3 % exact; weighted by popularity 56.7 % and 58.3 %) and, in
compound mode, pairs of words (56.3 % of the real ones, without 56.0 %). rapidfuzz: `fuzz.ratio` (79 of 120 exact; `OSA` 79 at
twice the time, `WRatio` 63 at eight times), from 80 of 100 on (78 exact; 79 from 75 on, which can only change more correct
queries).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from rapidfuzz import fuzz, process
from symspellpy import SymSpell, Verbosity

from app.domain import Item
from app.text import fold
from training.evaluation.metrics import Reply

MAX_OTHERS = 3
CHANGE_FROM, OFFER_FROM = 80, 60  # rapidfuzz similarity of 100


def dictionary(items: Iterable[Item]) -> SymSpell:
    """Every word of the catalogue's titles and artists with its frequency, and its pairs of neighbouring words."""
    words: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for item in items:
        for name in (fold(item.title), fold(item.artist)):
            found = name.split()
            words.update(found)
            pairs.update(f"{a} {b}" for a, b in pairwise(found))
    symspell = SymSpell(max_dictionary_edit_distance=2, prefix_length=7)
    for word, count in words.items():
        symspell.create_dictionary_entry(word, count)
    symspell.bigrams.update(pairs)
    symspell.bigram_count_min = min(pairs.values(), default=1)
    return symspell


class SymSpellWords:
    """SymSpell word by word; known words stay. Its other readings change one word to its next best."""

    names = ("SymSpell, word by word",)

    def __init__(self, symspell: SymSpell) -> None:
        self._symspell = symspell

    async def __call__(self, query: str) -> tuple[Reply, ...]:
        found = [[s.term for s in self._symspell.lookup(w, Verbosity.CLOSEST, 2, include_unknown=True)] for w in query.split()]
        best = [terms[0] for terms in found]
        others = [
            " ".join([*best[:i], terms[rank], *best[i + 1 :]])
            for rank in range(1, MAX_OTHERS + 1)
            for i, terms in enumerate(found)
            if rank < len(terms)
        ]
        return (Reply(" ".join(best), tuple(others[:MAX_OTHERS])),)


class SymSpellCompound:
    """SymSpell's `lookup_compound`, which also joins and splits words. It has one reading."""

    names = ("SymSpell, compound",)

    def __init__(self, symspell: SymSpell) -> None:
        self._symspell = symspell

    async def __call__(self, query: str) -> tuple[Reply, ...]:
        if not query.split():
            return (Reply(query),)
        return (Reply(self._symspell.lookup_compound(query, 2, split_by_space=True)[0].term),)


class NearestName:
    """The catalogue name most like the whole query by `rapidfuzz.fuzz.ratio`, from 80 of 100 on; a name stays."""

    names = ("rapidfuzz, nearest name",)

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._known = set(self._names)

    async def __call__(self, query: str) -> tuple[Reply, ...]:
        if query in self._known:
            return (Reply(query),)
        found = process.extract(query, self._names, scorer=fuzz.ratio, limit=MAX_OTHERS + 1, score_cutoff=OFFER_FROM)
        near = [name for name, _, _ in found]
        if found and found[0][1] >= CHANGE_FROM:
            return (Reply(near[0], tuple(near[1:])),)
        return (Reply(query, tuple(near[:MAX_OTHERS])),)
