"""Aggressive greedy decoding with many drafts, free of Triton so that it can be tested alone.

Spelling correction copies most of its input, so the input is a good guess of the output. One decoder pass verifies a whole
draft: the argmax after every prefix position at once. As long as argmax and draft agree the draft *is* the greedy output; at
the first disagreement the argmax is kept and the rest of the draft re-aligned (input-guided aggressive decoding, arXiv
2106.04970; lossless speculation, arXiv 2205.10350).

Two things go further here. Candidate readings from the catalogue travel with the query; each is a draft too, so that a
correction the lexicon thought of is confirmed in the first pass. And where a draft breaks, all plausible re-alignments of its
tail are verified side by side in one pass. The output is token for token that of plain greedy decoding: every accepted token
is the argmax after the accepted prefix.
"""

from dataclasses import dataclass, field

import numpy as np

START = 2  # `</s>` starts the decoder, as in BART
PAD = 1
EOS = 2
SLACK = 12  # an output may be this many tokens longer than its input
MAX_TOKENS = 72
MAX_TAILS = 6


@dataclass
class Row:
    """One query on its way through the decoder."""

    index: int  # its row in the encoder's batch
    drafts: list  # token lists ending in EOS; drafts[0] is the query itself
    limit: int
    accepted: list = field(default_factory=list)
    logprob: float = 0.0
    passes: int = 0

    @property
    def done(self):
        return len(self.accepted) >= self.limit or (bool(self.accepted) and self.accepted[-1] == EOS)


def decode(sources, candidates, verify):
    """Greedy output and log-probability for each query, and the log-probability of each of its candidates.

    Args:
        sources: [batch, tokens] int32, each row a query ending in EOS, then padding.
        candidates: [batch, n, tokens] int32, likewise; an all-padding row stands for no candidate.
        verify: callable (rows [r], prefix [r, t], labels [r, t], all int64) → (argmax [r, t], its log-probability [r, t], the
            labels' log-probability [r, t]): one decoder pass.

    Returns:
        outputs: list of token lists; logprobs [batch] float32; candidate_logprobs [batch, n] float32 (-inf for no candidate);
        query_logprobs [batch] float32; passes [batch] int32: decoder passes each query took part in.
    """
    batch, count = candidates.shape[:2]
    states, owners = [], []
    for b in range(batch):
        source = strip(sources[b]) or [EOS]
        given = [(n, strip(candidates[b, n])) for n in range(count)]
        given = [(n, tokens) for n, tokens in given if tokens]
        states.append(Row(b, [source] + [tokens for _, tokens in given], min(len(source) + SLACK, MAX_TOKENS)))
        owners.append([n for n, _ in given])

    candidate_logprobs = np.full((batch, count), -np.inf, np.float32)
    query_logprobs = np.zeros(batch, np.float32)
    first = True
    active = states
    while active:
        trials = [(state, tail) for state in active for tail in (state.drafts if first else tails(state))]
        argmax, best, logprob = run(trials, verify)
        if first:
            score(states, owners, trials, logprob, query_logprobs, candidate_logprobs)
            first = False
        accept(active, trials, argmax, best)
        active = [state for state in active if not state.done]

    logprobs = np.array([state.logprob for state in states], np.float32)
    passes = np.array([state.passes for state in states], np.int32)
    return [state.accepted for state in states], logprobs, candidate_logprobs, query_logprobs, passes


def strip(ids):
    """A padded row as a list up to and including its first EOS; empty for padding alone."""
    tokens = [int(i) for i in ids if i != PAD]
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


def tails(state):
    """Guesses of what follows `state.accepted`, most plausible first, each ending in EOS.

    A tail starts after a token equal to the last accepted one, near the same place, in any draft; or it assumes that the last
    accepted token stands for none, one, two or three tokens of the query.
    """
    done, last = len(state.accepted), state.accepted[-1]
    guesses = []
    for draft in state.drafts:
        places = [p for p, token in enumerate(draft[:-1]) if token == last and abs(p - done) <= 4]
        guesses += [draft[p + 1 :] for p in sorted(places, key=lambda p: abs(p + 1 - done))[:2]]
    source = state.drafts[0]
    guesses += [source[done + shift :] for shift in (0, 1, -1, 2) if 0 <= done + shift < len(source)]
    unique = list(dict.fromkeys(tuple(guess) for guess in guesses))[:MAX_TAILS]
    return [list(guess) for guess in unique] or [[EOS]]


def run(trials, verify):
    """One decoder pass over all trials, padded to the longest."""
    width = max(len(state.accepted) + len(tail) for state, tail in trials)
    prefix = np.full((len(trials), width), PAD, np.int64)
    labels = np.full((len(trials), width), PAD, np.int64)
    for r, (state, tail) in enumerate(trials):
        tokens = state.accepted + tail
        labels[r, : len(tokens)] = tokens
        prefix[r, 0] = START
        prefix[r, 1 : len(tokens)] = tokens[:-1]
    rows = np.array([state.index for state, _ in trials], np.int64)
    return verify(rows, prefix, labels)


def score(states, owners, trials, logprob, query_logprobs, candidate_logprobs):
    """Log-probability of each whole draft, read off the first pass."""
    r = 0
    for state, names in zip(states, owners):
        for position, draft in enumerate(state.drafts):
            total = float(logprob[r, : len(draft)].sum())
            if position == 0:
                query_logprobs[state.index] = total
            else:
                candidate_logprobs[state.index, names[position - 1]] = total
            r += 1


def accept(active, trials, argmax, best):
    """Extend each query by the longest run of argmax tokens that one of its trials had guessed, and by the token after it."""
    chosen = {}
    for r, (state, tail) in enumerate(trials):
        done = len(state.accepted)
        guessed = argmax[r, done : done + len(tail)]
        agree = 0
        while agree < len(tail) and guessed[agree] == tail[agree]:
            agree += 1
        length = min(agree + 1, len(tail))  # the token after the agreement is the argmax too
        if length > chosen.get(state.index, (0, 0))[0]:
            chosen[state.index] = (length, r)
    for state in active:
        length, r = chosen[state.index]
        done = len(state.accepted)
        length = min(length, state.limit - done)
        state.accepted = state.accepted + [int(t) for t in argmax[r, done : done + length]]
        state.logprob += float(best[r, done : done + length].sum())
        state.passes += 1
