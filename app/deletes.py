"""Nearest words in memory, to two edits exactly: sorted NumPy arrays that change in place.

What is added goes to small arrays beside the large ones, which are never moved; what is removed is passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA

PREFIX = 7  # letters that deletions are taken from, as in SymSpell: words that differ later share them whole
MAX_EDITS = 2
_OFFSET, _PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1  # FNV-1a

Hashes = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.int32]  # numbers of words


class SymmetricDeletes:
    """Words within two edits of a query word, all of them.

    Two words within *d* edits have a common string among those that deleting up to *d* letters leaves of each (symmetric
    delete, W. Garbe 2012; the idea is Mor and Fraenkel's, CACM 1982). The hashes of those strings are sorted; a look-up is a
    binary search for each deletion of the query word, and the words found are then compared letter by letter.

    Args:
        words: distinct words.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = list(words)
        self._gone: set[str] = set()
        self._first = _hashed(self._words, 0)
        self._later = _hashed([], 0)

    def update(self, added: Collection[str], removed: Collection[str]) -> None:
        """Add words that it does not have and remove words that it has. Time grows with the words added since the start."""
        self._gone.update(removed)
        new = [word for word in added if word not in self._gone]
        self._gone.difference_update(added)
        if new:
            hashes, owners = _hashed(new, len(self._words))
            self._words += new
            places = np.searchsorted(self._later[0], hashes)
            self._later = np.insert(self._later[0], places, hashes), np.insert(self._later[1], places, owners)

    def near(self, word: str, edits: int) -> list[tuple[str, int]]:
        """(word, distance) of all words 1 to `edits` away (insertion, deletion, substitution, transposition), `edits` ≤ 2."""
        asked = np.array(list(_left_by_deletions(word[:PREFIX], edits)), np.uint64)
        owners: set[int] = set()
        for hashes, owners_of in (self._first, self._later):
            if len(hashes):
                starts, ends = np.searchsorted(hashes, asked, "left"), np.searchsorted(hashes, asked, "right")
                owners.update(*(owners_of[start:end].tolist() for start, end in zip(starts, ends, strict=True) if start < end))
        words = (self._words[i] for i in sorted(owners))
        found = ((w, OSA.distance(word, w, score_cutoff=edits)) for w in words if w not in self._gone)
        return [(w, distance) for w, distance in found if 0 < distance <= edits]


def _hashed(words: Sequence[str], first: int) -> tuple[Hashes, Owners]:
    """The hashes of what deletions leave of `words`, sorted, and whose they are; the words are numbered from `first` on."""
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
        owners.append((rows + first).astype(np.int32))
    joined = np.concatenate(hashes)
    order = np.argsort(joined, kind="stable")
    return joined[order], np.concatenate(owners)[order]


def _deletions(length: int) -> Iterable[tuple[int, ...]]:
    for count in range(MAX_EDITS + 1):
        yield from combinations(range(length), count)


def _left_by_deletions(text: str, edits: int) -> set[int]:
    """The hashes of what is left of `text` without any `edits` letters or fewer."""
    by_lost: list[set[int]] = [{_OFFSET}, *(set() for _ in range(edits))]  # of the letters so far, by how many are left out
    for letter in map(ord, text):
        kept = [{((found ^ letter) * _PRIME) & _MASK for found in hashes} for hashes in by_lost]
        by_lost = [kept[0], *(one | lost for one, lost in zip(kept[1:], by_lost, strict=False))]
    return set().union(*by_lost)
