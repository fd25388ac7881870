"""The catalogue's words and names in memory: which readings of a query exist, found in about a millisecond.

A model alone does not know a name added this morning, and a lexicon alone does not know which name was meant; so the lexicon
proposes and the speller's model judges (`speller.py`). Readings come from two sides: the nearest whole names, and the query's
words replaced, joined and split one by one. Both are ordered as a noisy channel would (Kernighan, Church and Gale, 1990): what
the typing error costs (`channel.py`) plus how rare the name or word is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, zip_longest

from rapidfuzz.distance import OSA

from app.channel import Channel
from app.deletes import SymmetricDeletes
from app.domain import Item
from app.lookup import NgramLookup
from app.tally import Tally

SHORTLIST = 48  # names compared letter by letter
PRICED = 8  # of them, and of the words near a word, that the channel prices
MIN_NAME_SIMILARITY = 0.55
TURNED = 0.75  # names more similar than this are not tried with their words rotated
MAX_TOKENS = 12
BEAM = 6
CHOICES = 4  # for a word of the query
SPLITS = 2  # of them, the word as two
# Nats. A word that no table knows is a last resort; each word with an error in it costs about one in twelve.
UNKNOWN_WORD = 30.0
ERROR = 2.5
# Nats by which a reading may be less likely than the likeliest one and still be worth a model's time. Of 1 153 typos the
# speller acted otherwise on 5 with this limit than with none, and scored 2.5 readings a query instead of 4.5
# (docs/adr/0024-lean-routes.md).
HOPELESS = 12.0
RIVAL = 8.0  # nats by which a reading may be less likely than the name that was typed
REMEMBERED = 1024  # queries whose readings are kept: the speller and the retrieval of one search both ask for them
# Words whose choices are kept, and prices: most words of queries come again, and readings are priced here and by the reranker.
REMEMBERED_WORDS = 16_384
REMEMBERED_PRICES = 8_192
REMEMBERED_NAMES = 16_384  # names whose rotations are kept
FAMOUS = 3.0  # a name of this fame (two rows, or one of popularity 20) is taken at its word


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible reading of a query."""

    text: str


class Lexicon:
    """Words and names of a catalogue.

    Args:
        items: catalogue rows. Titles, artists and "title artist" pairs are names; their words, and those of genres and moods,
            are the words.
        channel: prices of typing errors; the fitted ones that ship when None.
    """

    def __init__(self, items: Iterable[Item], channel: Channel | None = None) -> None:
        self.names = Tally(items)
        self.words = self.names.words
        self.price = lru_cache(REMEMBERED_PRICES)((channel or Channel.load()).cost)
        """(query, reading) → what the typing errors between them cost, in nats; 0 where they are equal."""
        self._near_words = SymmetricDeletes(self.words)
        self._near_names = NgramLookup(self.names.proposed())
        self._readings = lru_cache(REMEMBERED)(self._find_readings)
        self._proposals = lru_cache(REMEMBERED)(self._find_proposals)
        self._options = lru_cache(REMEMBERED_WORDS)(self._find_options)
        self._rotations = lru_cache(REMEMBERED_NAMES)(self._find_rotations)
        self._weigh()

    def update(self, added: Sequence[Item], removed: Sequence[Item]) -> None:
        """Take in catalogue rows and let others go, in place; a row that changed is removed as it was and added as it is.

        From then on it answers as one built of the rows that are left, but for what `NgramLookup` cuts off. It is on the
        caller to remove only what is there, and to forget what was concluded from the old state. Milliseconds for a row,
        tenths of a second for a thousand; the more rows were added since the start, the longer.
        """
        changes = self.names.update(added, removed)
        self._near_words.update(changes.words, changes.lost_words)
        self._near_names.update(changes.names, changes.lost_names)
        self._readings.cache_clear()
        self._proposals.cache_clear()
        self._options.cache_clear()
        self._rotations.cache_clear()
        self._weigh()

    def _weigh(self) -> None:
        """What costs and fames are relative to."""
        self._log_top = math.log(1 + self.names.most)
        self._log_words = math.log(1 + self.names.total_words)
        self._beyond_doubt = ERROR + 2 + self._log_words - math.log(self.names.most)
        self._log_names = math.log(1 + self.names.total)

    def is_name(self, text: str) -> bool:
        """Whether folded `text` is exactly a title, an artist or a pair of both in either order."""
        return text in self.names

    def word_fame(self, word: str) -> float:
        """Fame-weighted frequency of a folded word on a log scale, 0 (unknown) to 1 (the catalogue's most frequent)."""
        return math.log(1 + self.words.get(word, 0)) / self._log_top

    def rarity(self, reading: str) -> float:
        """-log of a reading's share of the catalogue in nats: as a name where it is one, else word by word."""
        if reading in self.names:
            return self._log_names - math.log(1 + self.names[reading])
        return sum(self._word_cost(word) for word in reading.split())

    def candidates(self, query: str, limit: int) -> list[Candidate]:
        """At most `limit` readings of folded `query` other than itself, likeliest first, names and words in turn."""
        return list(self._readings(query)[:limit])

    def _find_readings(self, query: str) -> tuple[Candidate, ...]:
        found: dict[str, Candidate] = {}
        for candidate in chain.from_iterable(zip_longest(self.likely_names(query), self.likely_words(query))):
            if candidate:
                found.setdefault(candidate.text, candidate)
        return tuple(found.values())

    def proposals(self, query: str, limit: int) -> list[Candidate]:
        """Readings worth scoring, at most `limit`: the `rivals` of a name, else the `candidates` that are not hopeless."""
        return list(self._proposals(query, limit))

    def _find_proposals(self, query: str, limit: int) -> list[Candidate]:
        if query in self.names:
            return self.rivals(query, limit)
        found = self.candidates(query, limit)
        costs = [self.price(query, c.text) + self.rarity(c.text) for c in found]
        bar = min(costs, default=0.0) + HOPELESS
        return [c for c, cost in zip(found, costs, strict=True) if cost <= bar]

    def rivals(self, name: str, limit: int) -> list[Candidate]:
        """Readings of an obscure `name` of the catalogue that the channel finds about as likely as the name itself.

        Catalogues hold misspelt names too; a famous name has no rivals.
        """
        if self.names.get(name, 0.0) >= FAMOUS:
            return []
        own = self.rarity(name) + RIVAL
        return [c for c in self.candidates(name, limit) if ERROR + self.price(name, c.text) + self.rarity(c.text) < own]

    def likely_names(self, query: str) -> list[Candidate]:
        """The nearest whole names, likeliest first."""
        scored, several = [], " " in query
        for name in self._near_names.nearest(query, SHORTLIST):
            likeness = OSA.normalized_similarity(query, name)
            if several and likeness < TURNED:  # a pair may have been typed artist first
                name, likeness = self._turned(query, name, likeness)
            if likeness >= MIN_NAME_SIMILARITY and name != query:
                scored.append((-likeness, name))
        near = [name for _, name in sorted(scored)[:PRICED]]
        return [Candidate(name) for _, name in sorted((self._name_cost(query, name), name) for name in near)]

    def likely_words(self, query: str) -> list[Candidate]:
        """The query with its words replaced by near ones, joined or split, likeliest first."""
        tokens = query.split()
        if not tokens or len(tokens) > MAX_TOKENS:
            return []
        beams: list[list[tuple[float, str]]] = [[] for _ in range(len(tokens) + 1)]
        beams[0] = [(0.0, "")]
        for i, token in enumerate(tokens):
            beams[i] = sorted(set(beams[i]))[:BEAM]
            steps = [(1, self._options(token))]
            if i + 1 < len(tokens):
                steps.append((2, self._joined(token, tokens[i + 1])))
            for width, options in steps:
                beams[i + width] += [(c + cost, f"{text} {word}".lstrip()) for c, text in beams[i] for cost, word in options]
        best = sorted(set(beams[-1]))[:BEAM]
        return [Candidate(text) for _, text in best if text != query]

    def _name_cost(self, query: str, name: str) -> float:
        return self.price(query, name) + self.rarity(name)

    def _word_cost(self, word: str) -> float:
        fame = self.words.get(word)
        return UNKNOWN_WORD if fame is None else self._log_words - math.log(fame)

    def _turned(self, query: str, name: str, likeness: float) -> tuple[str, float]:
        """`name` with its words rotated as `query` has them, if that is nearer and a name too."""
        for turned in self._rotations(name):
            if (score := OSA.normalized_similarity(query, turned)) > likeness:
                name, likeness = turned, score
        return name, likeness

    def _find_rotations(self, name: str) -> tuple[str, ...]:
        """`name` with its words rotated, where that is a name too."""
        words = name.split()
        turned = (" ".join(words[cut:] + words[:cut]) for cut in range(1, len(words)))
        return tuple(text for text in turned if text in self.names)

    def _find_options(self, token: str) -> list[tuple[float, str]]:
        """(cost, text) choices for one token: itself, near words, itself split in two."""
        keep = (self._word_cost(token), token)
        if len(token) < 2 or keep[0] < self._beyond_doubt or any(c.isdigit() for c in token):
            return [keep]
        near = self._near_words.near(token, 1 if len(token) < 4 else 2)
        near.sort(key=lambda found: (found[1] * 4.0 + self._word_cost(found[0]), found[0]))
        priced = [(ERROR + self.price(token, word) + self._word_cost(word), word) for word, _ in near[:PRICED]]
        return sorted([keep, *priced, *self._split(token, keep[0])])[:CHOICES]

    def _split(self, token: str, least: float) -> list[tuple[float, str]]:
        """`token` as two known words, where that costs less than `least`."""
        found = []
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in self.words and right in self.words:
                text = f"{left} {right}"
                cost = ERROR + self.price(token, text) + self._word_cost(left) + self._word_cost(right)
                if cost < least:
                    found.append((cost, text))
        return sorted(found)[:SPLITS]

    def _joined(self, left: str, right: str) -> list[tuple[float, str]]:
        """Two tokens as the one known word that they make."""
        word = left + right
        if word not in self.words:
            return []
        return [(ERROR + self.price(f"{left} {right}", word) + self._word_cost(word), word)]
