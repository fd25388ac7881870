"""The rows of the spelling tables: ours, whole and in parts, behind the same call as the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.domain import Correction, Item
from app.inference import text_tensor
from app.lexicon import Lexicon
from app.reranker import Reranker
from app.settings import Settings
from app.speller import Policy, Speller
from app.text import fold
from training.evaluation.baselines import NearestName, SymSpellCompound, SymSpellWords, dictionary
from training.evaluation.metrics import Reply
from training.local import LocalBackend

GREEDY, LEXICON = "ours: greedy generation alone", "ours: lexicon alone"
REPLACE, SUGGEST = "ours: replace", "ours: replace or suggest"
BASELINES = ("SymSpell, word by word", "SymSpell, compound", "rapidfuzz, nearest name")
TIMEOUT_S = 60.0


class Method(Protocol):
    """Replies to a folded query; one that fills several rows of a table gives one reply for each of its `names`."""

    @property
    def names(self) -> tuple[str, ...]: ...

    async def __call__(self, query: str) -> tuple[Reply, ...]: ...


class AsTyped:
    names = ("left as typed",)

    async def __call__(self, query: str) -> tuple[Reply, ...]:
        return (Reply(query),)


class Greedy:
    """The model's own greedy reading: no lexicon, no reranker."""

    names = (GREEDY,)

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend

    async def __call__(self, query: str) -> tuple[Reply, ...]:
        inputs = {"QUERY": text_tensor([[query]]), "CANDIDATES": text_tensor([[""]])}
        found = await self._backend.infer("speller", inputs, ["TEXT"], TIMEOUT_S)
        return (Reply(fold(found["TEXT"][0, 0].decode()) or query),)


class FirstCandidate:
    """The lexicon's first candidate; a name stays. No model, no reranker, so nothing weighs it against the query."""

    names = (LEXICON,)

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon

    async def __call__(self, query: str) -> tuple[Reply, ...]:
        if self._lexicon.is_name(query):
            return (Reply(query),)
        texts = [c.text for c in self._lexicon.candidates(query, 4)]
        return (Reply(texts[0], tuple(texts[1:])),) if texts else (Reply(query),)


class Ours:
    """The speller as it serves, under two readings of its policy: what it replaces, and what it replaces or suggests."""

    names = (REPLACE, SUGGEST)

    def __init__(self, speller: Speller) -> None:
        self._speller = speller

    async def __call__(self, query: str) -> tuple[Reply, ...]:
        return replies(await self._speller.correct(query))


def replies(found: Correction) -> tuple[Reply, Reply]:
    """(what is searched without asking, what is searched or offered).

    A mended space needs no action and counts in both. A suggestion that is not searched is the first of the others.
    """
    typed, best = fold(found.query), fold(found.corrected)
    others = tuple(a.text for a in found.alternatives)
    whole = Reply(best, others, found.confidence, proposal(found))
    acted = found.action == "replace" or not found.changed
    return (Reply(best, others) if acted else Reply(typed, (best, *others))), whole


def proposal(found: Correction) -> tuple[str, float] | None:
    """The best reading other than the query with its probability, None where there is none worth showing."""
    if found.changed:
        return fold(found.corrected), found.confidence
    return (found.alternatives[0].text, found.alternatives[0].confidence) if found.alternatives else None


def build_speller(backend: LocalBackend, lexicon: Lexicon, settings: Settings) -> Speller:
    """The speller as the gateway builds it, over the graphs in this process."""
    policy = Policy(settings.replace_threshold, settings.suggest_threshold, settings.certain_threshold)
    reranker = Reranker.load(settings.reranker)
    return Speller(backend, lexicon, reranker, policy, timeout_s=TIMEOUT_S, max_in_flight=1, max_queue=4096)


def methods(backend: LocalBackend, items: Sequence[Item], lexicon: Lexicon, settings: Settings) -> list[Method]:
    """Every row over one catalogue."""
    symspell = dictionary(items)
    return [
        AsTyped(),
        SymSpellWords(symspell),
        SymSpellCompound(symspell),
        NearestName(lexicon.names),
        Greedy(backend),
        FirstCandidate(lexicon),
        Ours(build_speller(backend, lexicon, settings)),
    ]
