"""Spelling correction: the lexicon proposes readings, the speller's model scores them, the reranker decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.coalesce import Coalescer
from app.domain import Action, Alternative, Correction
from app.inference import InferenceBackend, text_tensor
from app.lexicon import Lexicon
from app.reranker import Reranker, Scored, features
from app.text import fold, normalise, same_reading

MODEL = "speller"
MAX_BATCH = 64  # max_batch_size in triton/models/speller*
MAX_CANDIDATES = 6
MAX_ALTERNATIVES = 3
MIN_ALTERNATIVE = 0.01
OUTPUTS = ("TEXT", "LOGPROB", "QUERY_LOGPROB", "CANDIDATE_LOGPROBS")


@dataclass(frozen=True, slots=True)
class Policy:
    """From which confidence a reading replaces the query, and from which it is offered.

    The defaults in `settings.py` were set by hand; training/RESULTS.md shows what they do.
    """

    replace: float
    suggest: float


class Question(NamedTuple):
    """A folded query and the readings to score."""

    query: str
    candidates: list[str]


class Speller:
    """Queries → corrections, concurrent requests coalesced into one Triton call.

    `lexicon` may be replaced while serving: each query uses the one that is there when it starts.
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
    ) -> None:
        self.lexicon = lexicon
        self._backend = backend
        self._reranker = reranker
        self._policy = policy
        self._timeout_s = timeout_s
        self._calls: Coalescer[Question, list[Scored]] = Coalescer(
            self.score, max_batch=MAX_BATCH, max_in_flight=max_in_flight, max_queue=max_queue
        )

    async def correct(self, query: str) -> Correction:
        """The best reading of `query` and what to do with it.

        Raises:
            ModelUnavailable, Overloaded, DeadlineExceeded, ModelFailed: see `InferenceBackend.infer`.
        """
        shown, lexicon = normalise(query), self.lexicon
        typed = fold(shown)
        if not typed:
            return Correction(shown, shown, False, 1.0, "none")
        # A name of the catalogue is what was meant: nothing is proposed against it, the model only confirms.
        protected = lexicon.is_name(typed)
        proposals = [] if protected else [c.text for c in lexicon.candidates(typed, MAX_CANDIDATES)]
        readings = await self._calls.submit(Question(typed, proposals))
        if protected:
            return Correction(shown, shown, False, 1.0, "none")
        return self.decide(shown, typed, readings, lexicon)

    def decide(self, shown: str, typed: str, readings: list[Scored], lexicon: Lexicon) -> Correction:
        """The correction that scored `readings` (the query first) add up to."""
        probabilities = self._reranker.probabilities(features(typed, readings, lexicon))
        order = [int(i) for i in np.argsort(-probabilities, kind="stable")]
        sure = probabilities[order[0]] >= self._policy.suggest
        chosen = order[0] if sure else 0
        best, confidence = readings[chosen].text, float(probabilities[chosen])
        corrected = shown if best == typed else best
        changed = not same_reading(corrected, typed)  # a space mended is the best reading, but nothing to tell a listener
        action: Action = "none" if not changed else "replace" if confidence >= self._policy.replace else "suggest"
        others = [(readings[i].text, float(probabilities[i])) for i in order if readings[i].text not in (best, typed)]
        alternatives = tuple(Alternative(t, round(p, 4)) for t, p in others[:MAX_ALTERNATIVES] if p >= MIN_ALTERNATIVE)
        return Correction(shown, corrected, changed, round(confidence, 4), action, alternatives)

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


def merge(question: Question, greedy: str, logprob: np.ndarray, query_logprob: np.ndarray, scores: np.ndarray) -> list[Scored]:  # type: ignore[type-arg]
    """One list of scored readings, the query first, the greedy reading added when nobody proposed it."""
    greedy = fold(greedy)
    readings = [Scored(question.query, float(query_logprob[0]), greedy == question.query)]
    readings += [Scored(c, float(s), c == greedy) for c, s in zip(question.candidates, scores, strict=False)]
    if greedy and all(r.text != greedy for r in readings):
        readings.append(Scored(greedy, float(logprob[0]), True))
    return readings
