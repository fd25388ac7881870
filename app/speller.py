"""Spelling correction: the lexicon proposes readings, the speller's model scores them, the reranker decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from app.cache import AnswerCache
from app.coalesce import Coalescer
from app.domain import Action, Alternative, Correction
from app.inference import InferenceBackend, text_tensor
from app.lexicon import Lexicon
from app.reranker import Reranker, Scored, features
from app.text import fold, normalise, same_reading

MODEL = "speller"
MAX_BATCH = 64  # max_batch_size in triton/models/speller*
BATCH = 16  # of queries that wait: trees of a larger batch are padded to the widest (tried by hand, no command)
MAX_CANDIDATES = 5
MAX_ALTERNATIVES = 3
MIN_ALTERNATIVE = 0.003
SHORT = 3  # letters
NOTHING: Action = "none"
OUTPUTS = ("TEXT", "LOGPROB", "QUERY_LOGPROB", "CANDIDATE_LOGPROBS")


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done at which confidence; training/RESULTS.md has a table of what other thresholds would do.

    Args:
        replace: from here on a reading is searched instead of the query.
        suggest: from here on it is offered.
        certain: what `replace` means for queries that are easily mistaken for typos: those with digits, those of one to three
            letters.

    A name of the catalogue is never replaced; a likelier one is offered from `replace` on.
    """

    replace: float
    suggest: float
    certain: float = 0.95

    def action(self, typed: str, reading: str, confidence: float, lexicon: Lexicon) -> Action:
        """What to do about `reading`; `none` leaves the query as it is."""
        if confidence < self.suggest:
            return "none"
        if lexicon.is_name(typed):
            return "suggest" if confidence >= self.replace else "none"
        delicate = len(typed) <= SHORT or _digits(typed) != _digits(reading)
        return "replace" if confidence >= (max(self.certain, self.replace) if delicate else self.replace) else "suggest"


class Question(NamedTuple):
    """A folded query and the readings to score."""

    query: str
    candidates: list[str]


class Speller:
    """Queries → corrections, concurrent requests coalesced into one Triton call; `observe` as `Coalescer`'s.

    Attributes:
        lexicon: may be replaced while serving: each query uses the one that is there when it starts.
        cache: folded query → its correction under the present lexicon; off when not given.
    """

    def __init__(
        self,
        backend: InferenceBackend,
        lexicon: Lexicon,
        reranker: Reranker,
        policy: Policy,
        *,
        timeout_s: float,
        max_in_flight: int,
        max_queue: int,
        cache: AnswerCache[str, Correction] | None = None,
        observe: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.cache: AnswerCache[str, Correction] = AnswerCache(0) if cache is None else cache
        self.lexicon = lexicon
        self._backend = backend
        self._reranker = reranker
        self._policy = policy
        self._timeout_s = timeout_s
        self._calls: Coalescer[Question, list[Scored]] = Coalescer(
            self.score, max_batch=BATCH, max_in_flight=max_in_flight, max_queue=max_queue, observe=observe
        )

    @property
    def lexicon(self) -> Lexicon:
        return self._lexicon

    @lexicon.setter
    def lexicon(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self.cache.clear()

    async def correct(self, query: str, *, fresh: bool = False) -> Correction:
        """The best reading of `query` and what to do with it; `fresh` asks the model whatever the cache holds.

        Raises:
            ModelUnavailable, Overloaded, DeadlineExceeded, ModelFailed: see `InferenceBackend.infer`.
        """
        shown = normalise(query)
        typed = fold(shown)
        if not typed:
            return Correction(shown, shown, False, 1.0, "none")
        judge = partial(self._judge, typed, self.lexicon)
        found = await (judge() if fresh else self.cache.get(typed, judge))
        # Queries that fold alike share the answer; each shows its own accents where it stays as typed.
        return replace(found, query=shown, corrected=shown if found.corrected == typed else found.corrected)

    def doubts(self, query: str) -> bool:
        """Whether there is another reading that may replace `query`; known at once, for no model is asked."""
        typed = fold(normalise(query))
        return not self.lexicon.is_name(typed) and bool(self.lexicon.proposals(typed, MAX_CANDIDATES))

    async def _judge(self, typed: str, lexicon: Lexicon) -> Correction:
        """The correction of a folded query."""
        # A name of the catalogue is what was meant: the model is asked only where a far more famous name is a slip away.
        proposals = lexicon.proposals(typed, MAX_CANDIDATES)
        if not proposals and lexicon.is_name(typed):
            return Correction(typed, typed, False, 1.0, "none")
        readings = await self._calls.submit(Question(typed, [c.text for c in proposals]))
        return self.decide(typed, readings, lexicon)

    def decide(self, typed: str, readings: list[Scored], lexicon: Lexicon) -> Correction:
        """The correction that scored `readings` (the query first) add up to."""
        probabilities = self._reranker.probabilities(features(typed, readings, lexicon))
        order = [int(i) for i in np.argsort(-probabilities, kind="stable") if i]
        chosen, action = 0, NOTHING
        if order:
            best, confidence = readings[order[0]].text, float(probabilities[order[0]])
            action = self._policy.action(typed, best, confidence, lexicon)
            likelier = confidence > probabilities[0] or not same_reading(best, typed)
            chosen = order[0] if action != "none" and likelier else 0
        text, confidence = readings[chosen].text, float(probabilities[chosen])
        others = [Alternative(readings[i].text, round(float(probabilities[i]), 4)) for i in order if i != chosen]
        alternatives = tuple(a for a in others[:MAX_ALTERNATIVES] if a.confidence >= MIN_ALTERNATIVE)
        changed = not same_reading(text, typed)  # a space mended is the best reading, but nothing to tell a listener
        return Correction(typed, text, changed, round(confidence, 4), action if changed else "none", alternatives)

    async def score(self, questions: list[Question]) -> list[list[Scored]]:
        """Log-probabilities of each query, its candidates and the model's own greedy reading, in one Triton call."""
        inputs = {
            "QUERY": text_tensor([[q.query] for q in questions]),
            "CANDIDATES": text_tensor([q.candidates or [""] for q in questions]),
        }
        answer = await self._backend.infer(MODEL, inputs, OUTPUTS, self._timeout_s)
        return [
            merge(q, answer["TEXT"][i, 0].decode(), *(answer[name][i] for name in OUTPUTS[1:])) for i, q in enumerate(questions)
        ]

    async def close(self) -> None:
        await self._calls.close()


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def merge(question: Question, greedy: str, logprob: np.ndarray, query_logprob: np.ndarray, scores: np.ndarray) -> list[Scored]:  # type: ignore[type-arg]
    """One list of scored readings, the query first, the greedy reading added when nobody proposed it."""
    greedy = fold(greedy)
    readings = [Scored(question.query, float(query_logprob[0]), greedy == question.query)]
    readings += [Scored(c, float(s), c == greedy) for c, s in zip(question.candidates, scores, strict=False)]
    broken = "\ufffd" in greedy  # a byte-level model may end inside a character
    if greedy and not broken and all(r.text != greedy for r in readings):
        readings.append(Scored(greedy, float(logprob[0]), True))
    return readings
