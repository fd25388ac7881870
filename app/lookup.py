"""Nearest names in memory, by shared trigrams: sorted NumPy arrays that change in place.

What is added goes to small arrays beside the large ones, which are never moved; what is removed is passed over. Both are asked
as one, so an answer is what a look-up built anew would give, except where it says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

POSTINGS = 32_768  # n-gram postings read for a query, rarest n-grams first

Owners = npt.NDArray[np.int32]  # numbers of texts


def ngrams(text: str, size: int = 3) -> list[str]:
    """Distinct character n-grams of each word with `^` and `$` at its ends: the order of words does not matter."""
    marked = (f"^{word}$" for word in text.split())
    return list(dict.fromkeys(word[i : i + size] for word in marked for i in range(max(len(word) - size + 1, 1))))


class Postings:
    """For each n-gram, by number, the texts that have it."""

    def __init__(self) -> None:
        self._owners: Owners = np.empty(0, np.int32)
        self._starts: npt.NDArray[np.int64] = np.zeros(1, np.int64)

    def of(self, gram: int) -> Owners:
        return self._owners[self._starts[gram] : self._starts[gram + 1]] if gram + 1 < len(self._starts) else self._owners[:0]

    def add(self, grams: npt.NDArray[np.int32], owners: Owners, known: int) -> None:
        """Let `owners` have `grams`, pair by pair; `known` n-grams are numbered by now."""
        order = np.argsort(grams, kind="stable")
        starts = np.pad(self._starts, (0, known + 1 - len(self._starts)), "edge")
        new = owners[order]
        self._owners = np.insert(self._owners, starts[grams[order] + 1], new) if len(self._owners) else new
        starts[1:] += np.cumsum(np.bincount(grams, minlength=known))
        self._starts = starts


class NgramLookup:
    """Names that share most trigrams with a query.

    Only the query's rarest trigrams are read, up to `POSTINGS` entries: a trigram that half the names have says nothing, and
    the time for a query does not grow with the catalogue. After changes, which names come last of those alike, and which of
    two trigrams as rare as each other is read when not both can be, may differ from a look-up built anew.

    Args:
        texts: distinct names of one word or more.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts: list[str] = []
        self._ids: dict[str, int] = {}
        self._first, self._later = Postings(), Postings()
        self._sizes = np.empty(0, np.float32)  # distinct n-grams of each text
        self._alive = np.empty(0, np.bool_)
        self._counts = np.empty(0, np.int64)  # texts alive that have the n-gram
        self._gone: dict[str, int] = {}
        self._add(list(texts), self._first)

    def update(self, added: Iterable[str], removed: Iterable[str]) -> None:
        """Add names that it does not have and remove names that it has. Time grows with the names added since the start."""
        for text in removed:
            if (owner := self._owner(text)) is not None:
                self._gone[text] = owner
                self._enliven(owner, False)
        new = []
        for text in added:
            if (owner := self._gone.pop(text, None)) is None:
                new.append(text)
            else:
                self._enliven(owner, True)
        if new:
            self._add(new, self._later)

    def nearest(self, text: str, limit: int) -> list[str]:
        """The `limit` names most like `text` by the Dice coefficient over the trigrams read, best first."""
        counted = ((int(self._counts[i]), i) for i in (self._ids.get(gram) for gram in ngrams(text)) if i is not None)
        parts: list[Owners] = []
        grams = read = 0
        for count, gram in sorted(pair for pair in counted if pair[0]):
            if grams and read + count > POSTINGS:
                break
            parts += (self._first.of(gram), self._later.of(gram))
            read += count
            grams += 1
        if not parts:
            return []
        owners = np.sort(np.concatenate(parts))
        if self._gone:
            owners = owners[self._alive[owners]]
        firsts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
        names = owners[firsts]
        shared = np.diff(np.append(firsts, len(owners)))
        scores = shared / (self._sizes[names] + grams)
        best = np.argpartition(scores, -limit)[-limit:] if limit < len(scores) else np.arange(len(scores))
        return [self._texts[names[i]] for i in best[np.argsort(-scores[best], kind="stable")]]

    def _add(self, texts: list[str], postings: Postings) -> None:
        first = len(self._texts)
        flat: list[int] = []
        sizes = np.zeros(len(texts), np.float32)
        for i, text in enumerate(texts):
            grams = ngrams(text)
            sizes[i] = len(grams)
            flat.extend(self._ids.setdefault(gram, len(self._ids)) for gram in grams)
        grams_of = np.asarray(flat, np.int32)
        owners = np.repeat(np.arange(first, first + len(texts), dtype=np.int32), sizes.astype(np.int64))
        postings.add(grams_of, owners, len(self._ids))
        self._texts += texts
        self._sizes = np.append(self._sizes, sizes)
        self._alive = np.append(self._alive, np.ones(len(texts), np.bool_))
        grown = np.bincount(grams_of, minlength=len(self._ids))
        grown[: len(self._counts)] += self._counts
        self._counts = grown

    def _enliven(self, owner: int, alive: bool) -> None:
        self._alive[owner] = alive
        self._counts[[self._ids[gram] for gram in ngrams(self._texts[owner])]] += 1 if alive else -1

    def _owner(self, text: str) -> int | None:
        """The number of a name that it has, looked for among those with its rarest trigram."""
        grams = ngrams(text)
        if not all(gram in self._ids for gram in grams):
            return None
        rarest = min((self._ids[gram] for gram in grams), key=lambda gram: int(self._counts[gram]), default=None)
        if rarest is None:
            return None
        owners = np.concatenate([self._first.of(rarest), self._later.of(rarest)])
        likely = owners[(self._sizes[owners] == len(grams)) & self._alive[owners]].tolist()
        return next((owner for owner in likely if self._texts[owner] == text), None)
