"""What a listener may be about to type: the catalogue's names that begin, or have a word that begins, as the typed text does.

Names lie in suffix arrays (`completion_part.py`): one of the catalogue as it was at the start, and few and small ones of the
names that changed since, each at least `GROWTH` times the next, as in a log-structured merge tree (O'Neil et al., 1996).
Completing is work for the processor alone, about a millisecond.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice

from app.channel import Channel
from app.completion_names import Completion, comparable, names, spellings
from app.completion_part import MAX_LIMIT, READ, Found, Part
from app.completion_rows import Name, Row
from app.domain import Item, Kind
from app.vocabulary import TWO_TYPOS_FROM, Vocabulary, contributions

__all__ = ["MAX_LIMIT", "READ", "Completion", "Completions", "comparable", "spellings"]

TYPOS_FROM = 4  # characters; shorter texts are near everything
BEAM = 8  # readings of the text so far
MAX_WORDS = 8  # of a text in which typos are looked for
NATS_PER_POINT = 0.05  # what popularity is worth against the price of a typo
GROWTH = 4


class Completions:
    """Names of a catalogue by what they begin with.

    Args:
        items: catalogue rows. Their titles, and the artists and albums of tracks, are the names; the same name in the same kind
            is one, spelt as in its most popular row.
        channel: prices of typing errors; the fitted ones that ship when None.
    """

    def __init__(self, items: Iterable[Item], channel: Channel | None = None) -> None:
        self._parts = [Part((row, 1) for item in items for _, row in named(item))]
        self._vocabulary = Vocabulary(contributions(self._parts[0].spelt()), channel or Channel.load())

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def update(self, added: Sequence[Item], removed: Sequence[Item]) -> None:
        """Take in catalogue rows and let others go, in place; a row that changed is removed as it was and added as it is.

        From then on it answers as one built of the rows that are left. Rows to remove that are not there are passed over.
        Milliseconds for a row, tenths of a second for a thousand; a name of many rows costs as much as they.
        """
        touched: dict[Name, Counter[Row]] = {}
        for items, sign in ((added, 1), (removed, -1)):
            for item in items:
                for name, row in named(item):
                    touched.setdefault(name, Counter())[row] += sign
        words: Counter[str] = Counter()
        rows: list[tuple[Row, int]] = []
        for name, change in touched.items():
            change.update(self._take(name, words))
            rows += ((row, times) for row, times in change.items() if times > 0)
        if rows:
            part = Part(rows)
            words.update(contributions(part.spelt()))
            self._parts.append(part)
            self._merge()
        self._vocabulary.update(words)

    def complete(self, typed: str, limit: int) -> list[Completion]:
        """At most `limit` (≤ 20) completions: a name typed whole, then names by popularity, then those a typo away.

        Typos are looked for in texts of four characters or more, two of them from eight on, when the limit is not yet reached.
        """
        typed = comparable(typed)
        if not typed:
            return []
        whole = heapq.merge(*(part.whole(typed) for part in self._parts))
        found = dict.fromkeys(name.completion for name in chain(whole, self._beginning(typed)))
        if len(found) < limit and len(typed) >= TYPOS_FROM:
            found.update(dict.fromkeys(self._misspelt(typed)))
        return list(found)[:limit]

    def begun(self, typed: str, limit: int) -> list[Completion]:
        """At most `limit` (≤ 20) names of which the typed text is the first part, likeliest first; no typo is forgiven."""
        typed = comparable(typed)
        if not typed:
            return []
        found = heapq.merge(*(part.begun(typed) for part in self._parts))
        return list(dict.fromkeys(name.completion for name in found))[:limit]

    def begins(self, typed: str) -> bool:
        """Whether the typed text is the first part of a name, or all of one; no typo is forgiven."""
        typed = comparable(typed)
        return bool(typed) and any(part.begins(typed) for part in self._parts)

    def _take(self, name: Name, words: Counter[str]) -> dict[Row, int]:
        """The rows of a name, which is buried; what it added to the fame of words is taken from `words`."""
        for part in self._parts:
            if (owner := part.owner(name)) is not None:
                words.subtract(contributions([part.spellings(owner)]))
                part.bury(owner)
                return dict(part.rows_of(owner))
        return {}

    def _merge(self) -> None:
        """Make one of the last parts while they are too much of a size; never the first, which is the catalogue's."""
        size, last = self._parts[-1].size, len(self._parts) - 1
        while last > 1 and self._parts[last - 1].size < GROWTH * size:
            last -= 1
            size += self._parts[last].size
        if last < len(self._parts) - 1:
            self._parts[last:] = [Part(chain.from_iterable(part.rows() for part in self._parts[last:]))]

    def _beginning(self, prefix: str) -> Iterable[Found]:
        """The best names with a word that begins so, best first."""
        return islice(heapq.merge(*(part.beginning(prefix) for part in self._parts)), MAX_LIMIT)

    def _misspelt(self, typed: str) -> list[Completion]:
        """Names that begin, or have a word that begins, as a reading of `typed` does; likely and popular ones first."""
        costs: dict[Completion, tuple[float, str, Kind]] = {}
        for price, reading in self._readings(typed):
            for name in self._beginning(reading):
                cost = (price - NATS_PER_POINT * name.weight, name.text, name.kind)
                costs[name.completion] = min(cost, costs.get(name.completion, cost))
        return sorted(costs, key=costs.__getitem__)

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
                for cost, lost, option in self._vocabulary.options(word, last)
                for price, edits, text in beam
                if edits + lost <= budget
            ]
            occurring = (reading for reading in grown if any(part.occurs(reading[2]) for part in self._parts))
            beam = heapq.nsmallest(BEAM, occurring)
        return [(price, text) for price, _, text in beam]


def named(item: Item) -> Iterable[tuple[Name, Row]]:
    """The names that a row bears, those without anything comparable left out."""
    for completion in names(item):
        if text := comparable(completion.text):
            yield (text, completion.kind), (completion, item.popularity)
