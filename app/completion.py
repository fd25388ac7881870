"""What a listener may be about to type: the catalogue's names that begin, or have a word that begins, as the typed text does.

All names lie in one string, and the places where their words start are sorted by the text that follows (a suffix array over
word starts; Manber and Myers, 1993): the completions of a prefix are one range of it, found by bisection. Of a long range only
the best names are wanted, and reading it would grow with the catalogue; so the best of every prefix of more than `READ` starts
are stored. In a large catalogue these are the common one- and two-letter prefixes, and also ``the`` and ``love``, which a table
for short prefixes alone would leave to be scanned. Completing is work for the processor alone, about a millisecond.
"""

from __future__ import annotations

import heapq
import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA

from app.channel import Channel
from app.domain import Item, Kind
from app.lookup import SymmetricDeletes
from app.text import fold

MAX_LIMIT = 20
READ = 4096  # word starts read for a prefix; the best of longer ranges are stored
KEPT = 8 * MAX_LIMIT  # starts of a longer range from which its best names are taken; one name may start alike several times
MAX_LENGTH = 256  # characters of a name that can be typed
LATER_WORD = 10.0  # points of popularity that a name loses when a later word of it was typed
TYPOS_FROM = 4  # characters; shorter texts are near everything
TWO_TYPOS_FROM = 8
HEAD = 7  # letters of a word in which a typo is looked up; later ones are looked for among the words with this head
SAME_HEAD = 512  # words with that head that are compared
OPTIONS = 12  # readings of one word
BEAM = 8  # readings of the text so far
MAX_WORDS = 8  # of a text in which typos are looked for
NATS_PER_POINT = 0.05  # what popularity is worth against the price of a typo
END = "\n"  # after each name; lower than every character of a folded text

_APOSTROPHES = re.compile("'+")
_BREAKS = re.compile(r"[!-&(-/:-@\[-`{-~¡¿·\s]+")


@dataclass(frozen=True, slots=True)
class Completion:
    """A name in the catalogue's own spelling; `artist` is empty for all but tracks and albums."""

    kind: Kind
    text: str
    artist: str = ""


def comparable(text: str) -> str:
    """Folded `text` without punctuation, in which it is completed: ``Mr. Brightside`` → ``mr brightside``.

    Text of punctuation alone (``!!!``) is kept.
    """
    folded = fold(text)
    return (_BREAKS.sub(" ", _APOSTROPHES.sub("", folded)).strip() or folded)[:MAX_LENGTH]


def spellings(text: str) -> tuple[str, ...]:
    """The ways in which a name may be begun: `comparable`, and with its signs left out (``AC/DC`` → ``ac dc``, ``acdc``)."""
    joined = " ".join(_BREAKS.sub("", word) for word in fold(text).replace("'", "").split())
    return tuple(dict.fromkeys(filter(None, (comparable(text), joined.strip()[:MAX_LENGTH]))))


class Completions:
    """Names of a catalogue by what they begin with, immutable; a changed catalogue gets a new one.

    Args:
        items: catalogue rows. Their titles, and the artists and albums of tracks, are the names; the same name in the same kind
            is one, spelt as in its most popular row.
        channel: prices of typing errors; the fitted ones that ship when None.
    """

    def __init__(self, items: Iterable[Item], channel: Channel | None = None) -> None:
        self._channel = channel or Channel.load()
        named = distinct(items)
        self._names = [completion for completion, _ in named.values()]
        self._weights = np.fromiter((weight for _, weight in named.values()), np.float32, len(named))
        spelt = [(owner, key) for owner, name in enumerate(self._names) for key in spellings(name.text)]
        self._text = END + "".join(key + END for _, key in spelt)
        codes = np.frombuffer(self._text.encode("utf-32-le"), np.uint32)
        (breaks,) = np.nonzero((codes[:-1] == ord(END)) | (codes[:-1] == ord(" ")))
        later = codes[breaks] == ord(" ")
        lines = np.cumsum(~later) - 1
        owners = np.fromiter((owner for owner, _ in spelt), np.int32, len(spelt))[lines]
        ends = np.flatnonzero(codes == ord(END))[1:][lines]
        tails = [self._text[start:end] for start, end in zip((breaks + 1).tolist(), ends.tolist(), strict=True)]
        self._fame = word_fame(tails, self._weights[owners])
        self._words = sorted(self._fame)
        whole_first = np.argsort(later, kind="stable").tolist()  # names before later words that read the same
        order = np.asarray(sorted(whole_first, key=tails.__getitem__), np.int64)
        self._starts = array("i", (breaks[order] + 1).tolist())
        self._later = later[order]
        self._owners: npt.NDArray[np.int32] = owners[order]
        weights = self._weights[self._owners] - LATER_WORD * self._later
        self._ranks = np.empty(len(order), np.int32)
        self._ranks[np.lexsort((self._owners, -weights))] = np.arange(len(order))
        self._stored = dict(self._long_ranges(codes))
        self._head_fame = head_fame(self._fame)
        self._near_heads = SymmetricDeletes(list(self._head_fame))

    def __len__(self) -> int:
        return len(self._names)

    def complete(self, typed: str, limit: int) -> list[Completion]:
        """At most `limit` (≤ 20) completions: a name typed whole, then names by popularity, then those a typo away.

        Typos are looked for in texts of four characters or more, two of them from eight on, when the limit is not yet reached.
        """
        typed = comparable(typed)
        if not typed:
            return []
        found = dict.fromkeys((*self._whole(typed), *self._beginning(typed)))
        if len(found) < limit and len(typed) >= TYPOS_FROM:
            found.update(dict.fromkeys(self._misspelt(typed)))
        return [self._names[owner] for owner in list(found)[:limit]]

    def _range(self, prefix: str) -> tuple[int, int]:
        size = len(prefix)

        def head(start: int) -> str:
            return self._text[start : start + size]

        low = bisect_left(self._starts, prefix, key=head)
        return low, bisect_right(self._starts, prefix, low, key=head)

    def _occurs(self, prefix: str) -> bool:
        size = len(prefix)
        low = bisect_left(self._starts, prefix, key=lambda start: self._text[start : start + size])
        return low < len(self._starts) and self._text.startswith(prefix, self._starts[low])

    def _whole(self, name: str) -> list[int]:
        """The names that are exactly `name`, most popular first."""
        low, high = self._range(name + END)
        high = low + int(np.searchsorted(self._later[low:high], True))
        owners: list[int] = self._owners[low + np.argsort(self._ranks[low:high])].tolist()
        return owners

    def _beginning(self, prefix: str) -> list[int]:
        """The best names with a word that begins so, most popular first."""
        low, high = self._range(prefix)
        return self._best(low, high) if high - low <= READ else self._stored[prefix]

    def _best(self, low: int, high: int) -> list[int]:
        ranks = self._ranks[low:high]
        best = np.argpartition(ranks, KEPT)[:KEPT] if len(ranks) > KEPT else np.arange(len(ranks))
        owners = self._owners[low + best[np.argsort(ranks[best])]]
        return list(dict.fromkeys(owners.tolist()))[:MAX_LIMIT]

    def _long_ranges(self, codes: npt.NDArray[np.uint32]) -> Iterator[tuple[str, list[int]]]:
        """(prefix, its best names) for each prefix of more than `READ` starts."""
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

    def _misspelt(self, typed: str) -> list[int]:
        """Names that begin, or have a word that begins, as a reading of `typed` does; likely and popular ones first."""
        costs: dict[int, float] = {}
        for price, reading in self._readings(typed):
            for owner in self._beginning(reading):
                cost = price - NATS_PER_POINT * float(self._weights[owner])
                costs[owner] = min(cost, costs.get(owner, math.inf))
        return sorted(costs, key=lambda owner: (costs[owner], owner))

    def _readings(self, typed: str) -> list[tuple[float, str]]:
        """(price in nats, prefix that the catalogue has) for what `typed` may have been meant as, cheapest first."""
        words = typed.split()
        if len(words) > MAX_WORDS:
            return []
        budget = 1 if len(typed) < TWO_TYPOS_FROM else 2
        beam: list[tuple[float, int, str]] = [(0.0, 0, "")]
        for i, word in enumerate(words):
            last = i + 1 == len(words)
            grown = [
                (price + cost, edits + lost, text + option + ("" if last else " "))
                for cost, lost, option in self._options(word, last)
                for price, edits, text in beam
                if edits + lost <= budget
            ]
            beam = heapq.nsmallest(BEAM, (reading for reading in grown if self._occurs(reading[2])))
        return [(price, text) for price, _, text in beam]

    def _options(self, word: str, last: bool) -> list[tuple[float, int, str]]:
        """(price, edits, text) of one typed word: itself and near words, or near beginnings of words where it is the last."""
        allowed = 0 if len(word) < 3 else 1 if len(word) < TWO_TYPOS_FROM else 2
        head, rest = word[:HEAD], word[HEAD:]
        near = {near + rest: edits for near, edits in self._near_heads.near(head, allowed)} if allowed else {}
        if rest:
            near.update(self._late_typos(word, head, allowed))
        if not last:
            near = {text: edits for text, edits in near.items() if text in self._fame}
        near.pop(word, None)

        def preference(found: tuple[str, int]) -> tuple[int, float]:
            text, edits = found
            return edits, -self._head_fame.get(text[:HEAD], 0.0)

        likely = heapq.nsmallest(OPTIONS, near.items(), key=preference)
        return [(0.0, 0, word), *((self._channel.cost(word, text), edits, text) for text, edits in likely)]

    def _late_typos(self, word: str, head: str, allowed: int) -> Iterator[tuple[str, int]]:
        """Beginnings of the words with this head that are `allowed` edits or fewer from `word`, and the edits."""
        first = bisect_left(self._words, head)
        for known in self._words[first : first + SAME_HEAD]:
            if not known.startswith(head):
                break
            for size in range(len(word) - allowed, len(word) + allowed + 1):
                edits = OSA.distance(word, known[:size], score_cutoff=allowed)
                if 0 < edits <= allowed:
                    yield known[:size], edits


def distinct(items: Iterable[Item]) -> dict[tuple[Kind, str], tuple[Completion, float]]:
    """(kind, comparable name) → the completion in its most popular spelling, and its weight: popularity + log2(rows)."""
    best: dict[tuple[Kind, str], tuple[Completion, float]] = {}
    rows: dict[tuple[Kind, str], int] = defaultdict(int)
    known: dict[str, str] = {}
    for item in items:
        for completion in names(item):
            text = completion.text
            if text not in known:
                known[text] = comparable(text)
            if not known[text]:
                continue
            key = (completion.kind, known[text])
            rows[key] += 1
            if key not in best or item.popularity > best[key][1]:
                best[key] = (completion, item.popularity)
    return {key: (completion, popularity + math.log2(rows[key])) for key, (completion, popularity) in best.items()}


def names(item: Item) -> Iterator[Completion]:
    """What an item can be typed as. The publisher of a podcast and the owner of a playlist are not artists."""
    yield Completion(item.kind, item.title, item.artist if item.kind in ("track", "album") else "")
    if item.kind in ("track", "album") and item.artist:
        yield Completion("artist", item.artist)
    if item.kind == "track" and item.album:
        yield Completion("album", item.album, item.artist)


def word_fame(tails: Iterable[str], weights: npt.NDArray[np.float32]) -> dict[str, float]:
    """First word of each text → how often and in how popular names it is met."""
    fame: dict[str, float] = defaultdict(float)
    for tail, weight in zip(tails, weights.tolist(), strict=True):
        fame[tail.partition(" ")[0]] += 1.0 + max(weight, 0.0) / 10
    return dict(fame)


def head_fame(words: dict[str, float]) -> dict[str, float]:
    """Beginnings of words, 3 to 8 letters, → the fame of the words that begin so. Eight is seven and a letter left out."""
    fame: dict[str, float] = defaultdict(float)
    for word, weight in words.items():
        for size in range(min(3, len(word)), min(len(word), HEAD + 1) + 1):
            fame[word[:size]] += weight
    return dict(fame)
