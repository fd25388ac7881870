"""Names by what they begin with: a suffix array over the places where their words start (Manber and Myers, 1993).

All names lie in one string, and the places where their words start are sorted by the text that follows: the completions of a
prefix are one range of it, found by bisection. Of a long range only the best names are wanted, and reading it would grow with
the catalogue; so the best of every prefix of more than `READ` starts are stored. In a large catalogue these are the common one-
and two-letter prefixes, and also ``the`` and ``love``, which a table for short prefixes alone would leave to be scanned.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.completion_names import END, Completion, spellings
from app.completion_rows import Bearers, Name, Row
from app.domain import Kind

MAX_LIMIT = 20
READ = 4096  # word starts read for a prefix; the best of longer ranges are stored
KEPT = 8 * MAX_LIMIT  # starts of a longer range from which its best names are taken; one name may start alike several times
LETTERS_PER_POINT = 0.15  # what popularity is worth against letters not typed yet
LATER_WORD = 10.0  # points of popularity that a name loses when a later word of it was typed


class Found(NamedTuple):
    """A name that begins, or has a word that begins, as typed. Sorts best first; no two have both text and kind."""

    loss: float  # negative points: the weight, less `LATER_WORD` where a later word begins so
    text: str  # comparable
    kind: Kind
    completion: Completion
    weight: float


class Part:
    """Some of a catalogue's names, all rows that bear them; immutable, but that names can be buried.

    A name is spelt as in its most popular row and weighs that row's popularity + log2(rows).

    Args:
        rows: of names with something comparable, and how many rows of the catalogue each stands for.
    """

    def __init__(self, rows: Iterable[tuple[Row, int]]) -> None:
        self._bearers = Bearers(rows)
        self._names, self._weights = self._bearers.names, self._bearers.weights
        spelt = [(owner, key) for owner, name in enumerate(self._names) for key in spellings(name.text)]
        self._text = END + "".join(key + END for _, key in spelt)
        codes = np.frombuffer(self._text.encode("utf-32-le"), np.uint32)
        (breaks,) = np.nonzero((codes[:-1] == ord(END)) | (codes[:-1] == ord(" ")))
        later = codes[breaks] == ord(" ")
        owners_of = np.fromiter((owner for owner, _ in spelt), np.int32, len(spelt))
        lines_at = (breaks[~later] + 1)[np.diff(owners_of, prepend=-1) > 0]
        self._lines: npt.NDArray[np.int32] = np.append(lines_at, len(self._text)).astype(np.int32)  # each name's first
        lines = np.cumsum(~later) - 1
        owners = owners_of[lines]
        ends = np.flatnonzero(codes == ord(END))[1:][lines]
        tails = [self._text[start:end] for start, end in zip((breaks + 1).tolist(), ends.tolist(), strict=True)]
        whole_first = np.argsort(later, kind="stable").tolist()  # names before later words that read the same
        order = np.asarray(sorted(whole_first, key=tails.__getitem__), np.int64)
        self._starts = array("i", (breaks[order] + 1).tolist())
        self._later = later[order]
        self._owners: npt.NDArray[np.int32] = owners[order]
        self._ranks = np.empty(len(order), np.int32)
        self._ranks[np.lexsort((self._owners, self._losses(np.arange(len(order)))))] = np.arange(len(order))
        self._buried = 0
        self._alive = np.ones(len(self._names), np.bool_)
        self._stored = dict(self._long_ranges(codes))

    def __len__(self) -> int:
        return len(self._names) - self._buried

    @property
    def size(self) -> int:
        """How many different rows it was made of."""
        return len(self._bearers)

    def spelt(self) -> Iterator[tuple[list[str], float]]:
        """Each name that is not buried in its spellings, and its weight."""
        return map(self.spellings, np.flatnonzero(self._alive).tolist())

    def spellings(self, owner: int) -> tuple[list[str], float]:
        """One name in its spellings, and its weight."""
        start, end = self._lines[owner : owner + 2].tolist()
        return self._text[start : end - 1].split(END), float(self._weights[owner])

    def rows(self) -> Iterator[tuple[Row, int]]:
        """The rows of all names that are not buried, and how many of each there are."""
        return chain.from_iterable(map(self.rows_of, np.flatnonzero(self._alive).tolist()))

    def rows_of(self, owner: int) -> Iterator[tuple[Row, int]]:
        """The rows of one name, buried or not, and how many of each there are."""
        return self._bearers.rows(owner)

    def owner(self, name: Name) -> int | None:
        """The number of a name, unless it is not here or buried."""
        text, kind = name
        found = (owner for owner, _ in self._whole(text) if self._names[owner].kind == kind and self._key(owner) == text)
        return next(found, None)

    def bury(self, owner: int) -> None:
        """Leave a name out from now on."""
        self._alive[owner] = False
        self._buried += 1

    def whole(self, text: str) -> list[Found]:
        """The names that are exactly `text`, in one of their spellings."""
        return sorted(self._found(owner, loss) for owner, loss in self._whole(text))

    def beginning(self, prefix: str) -> list[Found]:
        """The `MAX_LIMIT` best names with a word that begins so, best first."""
        low, high = self._range(prefix)
        if high - low <= READ:
            best = self._best(low, high)
        else:
            best = self._stored[prefix]
            if self._buried and not self._alive[self._owners[best]].all():
                best = self._stored[prefix] = self._best(low, high)
        losses = self._losses(best).tolist()
        found: dict[int, Found] = {}
        for owner, loss in zip(self._owners[best].tolist(), losses, strict=True):
            if owner not in found:
                found[owner] = self._found(owner, loss)
        return list(found.values())[:MAX_LIMIT]

    def begun(self, prefix: str) -> list[Found]:
        """The `MAX_LIMIT` likeliest names of which `prefix` is the first part, likeliest first; `loss` is in letters.

        A name of which most is typed is likelier than a longer one: `LETTERS_PER_POINT` weighs that against popularity.
        """
        low, high = self._range(prefix)
        places = np.arange(low, high) if high - low <= READ else self._stored[prefix]
        places = places[~self._later[places] & self._alive[self._owners[places]]]
        owners = np.unique(self._owners[places])
        losses = np.diff(self._lines)[owners] - LETTERS_PER_POINT * self._weights[owners]
        best = np.argsort(losses, kind="stable")[:MAX_LIMIT]
        return [self._found(owner, loss) for owner, loss in zip(owners[best].tolist(), losses[best].tolist(), strict=True)]

    def begins(self, prefix: str) -> bool:
        """Whether a name begins so, with its first word. Of a long range the first `READ` nearly always tell."""
        low, high = self._range(prefix)
        parts = (slice(at, min(at + READ, high)) for at in range(low, high, READ))
        return any((~self._later[part] & self._alive[self._owners[part]]).any() for part in parts)

    def occurs(self, prefix: str) -> bool:
        """Whether a name has a word that begins so."""
        size = len(prefix)
        low = bisect_left(self._starts, prefix, key=lambda start: self._text[start : start + size])
        if low == len(self._starts) or not self._text.startswith(prefix, self._starts[low]):
            return False
        return bool(self._alive[self._owners[low]]) or bool(self._alive[self._owners[slice(*self._range(prefix))]].any())

    def _losses(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        losses: npt.NDArray[np.float32] = np.float32(LATER_WORD) * self._later[places] - self._weights[self._owners[places]]
        return losses

    def _found(self, owner: int, loss: float) -> Found:
        name = self._names[owner]
        return Found(loss, self._key(owner), name.kind, name, float(self._weights[owner]))

    def _key(self, owner: int) -> str:
        start = int(self._lines[owner])
        return self._text[start : self._text.index(END, start)]

    def _range(self, prefix: str) -> tuple[int, int]:
        size = len(prefix)

        def head(start: int) -> str:
            return self._text[start : start + size]

        low = bisect_left(self._starts, prefix, key=head)
        return low, bisect_right(self._starts, prefix, low, key=head)

    def _whole(self, text: str) -> Iterator[tuple[int, float]]:
        """(number, loss) of the names that are exactly `text`."""
        low, high = self._range(text + END)
        high = low + int(np.searchsorted(self._later[low:high], True))
        for owner in self._owners[low:high].tolist():
            if self._alive[owner]:
                yield owner, -float(self._weights[owner])

    def _best(self, low: int, high: int) -> npt.NDArray[np.int64]:
        """The best places of a range, best first, buried names left out."""
        places = np.arange(low, high)
        if self._buried:
            places = places[self._alive[self._owners[low:high]]]
        ranks = self._ranks[places]
        best = np.argpartition(ranks, KEPT)[:KEPT] if len(ranks) > KEPT else np.arange(len(ranks))
        chosen: npt.NDArray[np.int64] = places[best[np.argsort(ranks[best])]]
        return chosen

    def _long_ranges(self, codes: npt.NDArray[np.uint32]) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        """(prefix, its best places) for each prefix of more than `READ` starts."""
        starts = np.asarray(self._starts)
        pending = [("", 0, len(starts))]
        while pending:
            prefix, low, high = pending.pop()
            if high - low <= READ:
                continue
            yield prefix, self._best(low, high)
            if prefix.endswith(END):
                continue
            following = codes[starts[low:high] + len(prefix)]
            cuts = [low, *(low + 1 + np.flatnonzero(np.diff(following))).tolist(), high]
            pending += [(prefix + chr(following[a - low]), a, b) for a, b in pairwise(cuts)]
