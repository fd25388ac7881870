"""The words that completions are made of: which exist, how famous they are and which lie near a mistyped one."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rapidfuzz.distance import OSA

from app.channel import Channel
from app.deletes import SymmetricDeletes
from app.tally import fame, shift

HEAD = 7  # letters of a word in which a typo is looked up; later ones are looked for among the words with this head
SAME_HEAD = 512  # words with that head that are compared
OPTIONS = 12  # readings of one word
TWO_TYPOS_FROM = 8  # characters


class Vocabulary:
    """Words of a catalogue's names with their fame, and the beginnings of words with theirs.

    Args:
        words: word → how often and in how popular names it is met, see `contributions`.
        channel: prices of typing errors.
    """

    def __init__(self, words: Mapping[str, float], channel: Channel) -> None:
        self._channel = channel
        self._fame = dict(words)
        self._words = sorted(self._fame)
        self._head_fame: dict[str, float] = defaultdict(float)
        for word, known in self._fame.items():
            for head in heads(word):
                self._head_fame[head] += known
        self._head_fame = dict(self._head_fame)
        self._near_heads = SymmetricDeletes(self._head_fame)

    def update(self, changes: Mapping[str, float]) -> None:
        """Add to the fame of words; what falls to nothing is forgotten."""
        new: set[str] = set()
        gone: set[str] = set()
        for word, change in changes.items():
            if not change:
                continue
            known = word in self._fame
            if shift(self._fame, word, change) and not known:
                insort(self._words, word)
            elif known and word not in self._fame:
                del self._words[bisect_left(self._words, word)]
            for head in heads(word):
                known = head in self._head_fame
                now = shift(self._head_fame, head, change) > 0
                if now != known:
                    moved, back = (new, gone) if now else (gone, new)
                    if head in back:
                        back.remove(head)
                    else:
                        moved.add(head)
        self._near_heads.update(new, gone)

    def options(self, word: str, last: bool) -> list[tuple[float, int, str]]:
        """(price, edits, text) of one typed word: itself and near words, or near beginnings of words where it is the last."""
        allowed = 0 if len(word) < 3 else 1 if len(word) < TWO_TYPOS_FROM else 2
        head, rest = word[:HEAD], word[HEAD:]
        near = {near + rest: edits for near, edits in self._near_heads.near(head, allowed)} if allowed else {}
        if rest:
            near.update(self._late_typos(word, head, allowed))
        if not last:
            near = {text: edits for text, edits in near.items() if text in self._fame}
        near.pop(word, None)

        def preference(found: tuple[str, int]) -> tuple[int, float, str]:
            text, edits = found
            return edits, -self._head_fame.get(text[:HEAD], 0.0), text

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


def contributions(names: Iterable[tuple[Sequence[str], float]]) -> dict[str, float]:
    """Word → what names, given by their spellings and weights, add to its fame."""
    found: dict[str, float] = defaultdict(float)
    for spellings, weight in names:
        added = fame(max(weight, 0.0))
        for spelling in spellings:
            for word in spelling.split(" "):
                found[word] += added
    return dict(found)


def heads(word: str) -> Iterator[str]:
    """Beginnings of a word, 3 to 8 letters. Eight is seven and a letter left out."""
    return (word[:size] for size in range(min(3, len(word)), min(len(word), HEAD + 1) + 1))
