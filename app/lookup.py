"""Nearest strings in memory: words to two edits exactly, names by shared trigrams. Both are sorted NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA

PREFIX = 7  # letters that deletions are taken from, as in SymSpell: words that differ later share them whole
MAX_EDITS = 2
POSTINGS = 32_768  # n-gram postings read for a query, rarest n-grams first
_OFFSET, _PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1  # FNV-1a


class SymmetricDeletes:
    """Words within two edits of a query word, all of them.

    Two words within *d* edits have a common string among those that deleting up to *d* letters leaves of each (symmetric
    delete, W. Garbe 2012; the idea is Mor and Fraenkel's, CACM 1982). The hashes of those strings are sorted; a look-up is a
    binary search for each deletion of the query word, and the words found are then compared letter by letter.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        codes = np.zeros((len(words), PREFIX), np.uint64)
        for row, word in enumerate(words):
            codes[row, : len(word)] = [ord(c) for c in word[:PREFIX]]
        lengths = np.fromiter((min(len(w), PREFIX) for w in words), np.int64, len(words))
        hashes, owners = [], []
        for lost in _deletions(PREFIX):
            (rows,) = np.nonzero(lengths > max(lost, default=-1))
            found = np.full(len(rows), _OFFSET, np.uint64)
            for i in range(PREFIX):
                if i not in lost:
                    found = np.where(lengths[rows] > i, (found ^ codes[rows, i]) * np.uint64(_PRIME), found)
            hashes.append(found)
            owners.append(rows.astype(np.int32))
        joined = np.concatenate(hashes)
        order = np.argsort(joined, kind="stable")
        self._hashes: npt.NDArray[np.uint64] = joined[order]
        self._owners: npt.NDArray[np.int32] = np.concatenate(owners)[order]

    def near(self, word: str, edits: int) -> list[tuple[str, int]]:
        """(word, distance) of all words 1 to `edits` away (insertion, deletion, substitution, transposition), `edits` ≤ 2."""
        letters = [ord(c) for c in word[:PREFIX]]
        asked = np.array(list({_hash(letters, lost) for lost in _deletions(len(letters), edits)}), np.uint64)
        starts = np.searchsorted(self._hashes, asked, "left")
        ends = np.searchsorted(self._hashes, asked, "right")
        owners = {int(i) for start, end in zip(starts, ends, strict=True) for i in self._owners[start:end]}
        found = ((w, OSA.distance(word, w, score_cutoff=edits)) for w in (self.words[i] for i in sorted(owners)))
        return [(w, distance) for w, distance in found if 0 < distance <= edits]


def _deletions(length: int, edits: int = MAX_EDITS) -> Iterable[tuple[int, ...]]:
    for count in range(edits + 1):
        yield from combinations(range(length), count)


def _hash(letters: Sequence[int], lost: tuple[int, ...]) -> int:
    found = _OFFSET
    for i, letter in enumerate(letters):
        if i not in lost:
            found = ((found ^ letter) * _PRIME) & _MASK
    return found


def ngrams(text: str, size: int = 3) -> set[str]:
    """Distinct character n-grams of each word with `^` and `$` at its ends: the order of words does not matter."""
    grams: set[str] = set()
    for word in text.split():
        marked = f"^{word}$"
        grams.update(marked[i : i + size] for i in range(max(len(marked) - size + 1, 1)))
    return grams


class NgramLookup:
    """Names that share most trigrams with a query.

    Only the query's rarest trigrams are read, up to `POSTINGS` entries: a trigram that half the names have says nothing, and
    the time for a query does not grow with the catalogue.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        ids: dict[str, int] = {}
        flat: list[int] = []
        sizes = np.zeros(len(texts), np.float32)
        for owner, text in enumerate(texts):
            grams = ngrams(text)
            sizes[owner] = len(grams)
            flat.extend(ids.setdefault(gram, len(ids)) for gram in grams)
        grams_of = np.asarray(flat, np.int32)
        owners = np.repeat(np.arange(len(texts), dtype=np.int32), sizes.astype(np.int64))
        self._postings: npt.NDArray[np.int32] = owners[np.argsort(grams_of, kind="stable")]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(grams_of, minlength=len(ids)))])
        self._ids = ids
        self._sizes = sizes

    def nearest(self, text: str, limit: int) -> list[str]:
        """The `limit` names most like `text` by the Dice coefficient over the trigrams read, best first."""
        grams = [self._ids[g] for g in ngrams(text) if g in self._ids]
        spans = sorted(((int(self._starts[g]), int(self._starts[g + 1])) for g in grams), key=lambda span: span[1] - span[0])
        parts: list[npt.NDArray[np.int32]] = []
        read = 0
        for start, end in spans:
            if parts and read + end - start > POSTINGS:
                break
            parts.append(self._postings[start:end])
            read += end - start
        if not parts:
            return []
        owners = np.sort(np.concatenate(parts))
        firsts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
        names = owners[firsts]
        shared = np.diff(np.append(firsts, len(owners)))
        scores = shared / (self._sizes[names] + len(parts))
        best = np.argpartition(scores, -limit)[-limit:] if limit < len(scores) else np.arange(len(scores))
        return [self.texts[names[i]] for i in best[np.argsort(-scores[best], kind="stable")]]
