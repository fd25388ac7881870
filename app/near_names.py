"""The catalogue's names that a query may stand for, half typed or misspelt: what retrieval looks up beside the query itself.

Trigrams find a name through one typing error; of a short name two errors leave none (``hs``, ``hiss``), and for a name half
typed they find all others with the same beginning. Names in memory know both in about a millisecond.
"""

from __future__ import annotations

from rapidfuzz.distance import OSA

from app.completion import Completions
from app.lexicon import Lexicon
from app.text import fold

BEGUN = 9  # names that the query may be the first part of
MISSPELT = 6  # names that it may be misspelt from
BEGINS = 0.8  # what a misspelt name counts beside names that begin as typed
ALIKE = 0.6  # share of right letters from which a name is no accident
ANOTHER_WORD = 0.5  # share of right letters in a word below which it is another word
WORD = 4  # letters by which a query is longer than the name it begins with when it says a word more
BY_EDITS = {1: 0.9, 2: 0.8}


def likelihood(query: str, name: str) -> float:
    """How likely `query` is `name` misspelt, 0–1: one or two edits are typing, more of them only in a long name.

    A name in which a word is another altogether (``chill hits``, ``chill bill``) is no misspelling, nor is one with a word more
    (``twenty one pilots radio``).
    """
    words, meant = query.split(), name.split()
    if len(words) > len(meant) and len(query) - len(name) > WORD:
        return 0.0
    if len(words) == len(meant) > 1:
        least = min(OSA.normalized_similarity(w, m) for w, m in zip(words, meant, strict=True))
        if least < ANOTHER_WORD:
            return 0.0
    likeness = OSA.normalized_similarity(query, name)
    return max(BY_EDITS.get(OSA.distance(query, name), 0.0), likeness if likeness >= ALIKE else 0.0)


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
            trust = BEGINS if found else 1.0
            for candidate in self._lexicon.candidates(query, 2 * MISSPELT):
                if self._lexicon.is_name(candidate.text):
                    found.setdefault(candidate.text, trust * likelihood(query, candidate.text))
        found.pop(query, None)
        return tuple(found.items())
