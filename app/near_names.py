"""The catalogue's names that a query may stand for, half typed or misspelt: what retrieval looks up beside the query itself.

Trigrams find a name through one typing error; of a short name two errors leave none (``hs``, ``hiss``), and for a name half
typed they find all others with the same beginning. Names in memory know both in about a millisecond.
"""

from __future__ import annotations

from collections.abc import Container

from rapidfuzz.distance import OSA

from app.completion import Completions
from app.lexicon import Lexicon
from app.text import fold

BEGUN = 9  # names that the query may be the first part of
MISSPELT = 6  # names that it may be misspelt from
BEGINS = 0.8  # what a misspelt name counts beside names that begin as typed
ALIKE = 0.6  # share of right letters from which a name is no accident
ANOTHER_WORD = 0.5  # share of right letters in a word below which it is another word
NEARLY_ALL = 0.75  # share of right letters from which only a word that exists is another one (``virginia bceh`` has none)
WORD = 4  # letters by which a query is longer than the name it begins with when it says a word more
BY_EDITS = {1: 0.9, 2: 0.8}
WELL_SPELT = 0.1  # what a misspelling is less likely where all words typed exist: a slip seldom makes another word
AND = {"and", "&"}


def likelihood(query: str, name: str, words: Container[str] = ()) -> float:
    """How likely `query` is `name` misspelt, 0–1: one or two edits are typing, more of them only in a long name.

    A name in which a word is another altogether (``chill hits``, ``chill bill``) is no misspelling, nor is one with a word more
    (``twenty one pilots radio``).

    Args:
        query, name: folded.
        words: those that exist. Where nearly all letters are right, only such a word is another one.
    """
    typed, meant = query.split(), name.split()
    if len(typed) > len(meant) and len(query) - len(name) > WORD:
        return 0.0
    likeness = OSA.normalized_similarity(query, name)
    if len(typed) == len(meant) > 1:
        for word, other in zip(typed, meant, strict=True):
            if (likeness < NEARLY_ALL or word in words) and _another(word, other):
                return 0.0
    return max(BY_EDITS.get(OSA.distance(query, name), 0.0), likeness if likeness >= ALIKE else 0.0)


def _another(word: str, other: str) -> bool:
    return OSA.normalized_similarity(word, other) < ANOTHER_WORD and not (word in AND and other in AND)


class NearNames:
    """Names near a query, each with how likely it is the one meant."""

    def __init__(self, lexicon: Lexicon, completions: Completions) -> None:
        self._lexicon = lexicon
        self._completions = completions

    def __call__(self, query: str) -> tuple[tuple[str, float], ...]:
        """(folded name, likelihood 0–1) of at most `BEGUN` + `MISSPELT` names other than the folded query itself."""
        found: dict[str, float] = {}
        for completion in self._completions.begun(query, BEGUN):
            name = fold(completion.text)
            found.setdefault(name, 0.5 + 0.5 * len(query) / max(len(name), len(query)))
        if not self._lexicon.is_name(query):
            words = self._lexicon.words
            trust, less = BEGINS if found else 1.0, WELL_SPELT if all(word in words for word in query.split()) else 0.0
            for candidate in self._lexicon.candidates(query, 2 * MISSPELT):
                if self._lexicon.is_name(candidate.text):
                    found.setdefault(candidate.text, trust * max(likelihood(query, candidate.text, words) - less, 0.0))
        found.pop(query, None)
        return tuple(found.items())

    def begun(self, query: str) -> bool:
        """Whether the folded query is the first part of a name, or all of one: it may be unfinished where it seems misspelt."""
        return self._completions.begins(query)
