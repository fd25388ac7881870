"""Aggressive greedy decoding with a tree of drafts, free of Triton so that it can be tested alone.

Spelling correction copies most of its input, so the input is a good guess of the output. One decoder pass verifies a whole
draft: the argmax after every prefix at once. As long as argmax and draft agree the draft *is* the greedy output; at the first
disagreement the argmax is kept and the rest of the draft re-aligned (input-guided aggressive decoding, arXiv 2106.04970;
lossless speculation, arXiv 2205.10350).

Two things go further here. Candidate readings from the catalogue travel with the query; each is a draft too, so that a
correction the lexicon thought of is confirmed in the first pass. And where a draft breaks, several re-alignments of its tail
are verified in one pass. The drafts of a query form a tree: what they begin with in common is computed once (SpecInfer, arXiv
2305.09781). The output is token for token that of plain greedy decoding: every accepted token is the argmax after the
accepted prefix.
"""

import numpy as np

START = 2  # `</s>` starts the decoder, as in BART
PAD = 1
EOS = 2
SLACK = 12  # an output may be this many tokens longer than its input
MAX_TOKENS = 72
MAX_TAILS = 2  # of 1 to 6 the cheapest on two cores: more make a pass wider than they save passes


class Query:
    """One query on its way through the decoder, and the tree of its next pass.

    A node stands for a prefix: a token after its parent's prefix, node 0 for START alone. An edge stands for a token that may
    follow a node; each token of a draft has one, and it leads to a node unless the token is EOS, after which nothing is asked.
    """

    def __init__(self, index, drafts):
        self.index = index  # its row in the encoder's batch
        self.drafts = drafts  # token lists; drafts[0] is the query itself
        self.limit = min(len(drafts[0]) + SLACK, MAX_TOKENS)
        self.accepted = []
        self.logprob = 0.0
        self.passes = 0
        self.root()

    @property
    def done(self):
        return len(self.accepted) >= self.limit or (bool(self.accepted) and self.accepted[-1] == EOS)

    def root(self):
        """A tree of the accepted prefix alone; `tip` is its last node."""
        self.tokens = [START, *self.accepted]
        self.tip = len(self.accepted)
        self.parents = [0, *range(self.tip)]
        self.depths = list(range(self.tip + 1))
        self.branches = [{} for _ in self.tokens]  # of each node: token → (edge, node that it leads to, None after EOS)
        self.edges = []  # (node, token)

    def graft(self, tail):
        """Grow the tree by `tail` after the tip; returns the tail's edges."""
        node, path = self.tip, []
        for token in tail:
            if token not in self.branches[node]:
                child = None if token == EOS else len(self.tokens)
                self.branches[node][token] = (len(self.edges), child)
                self.edges.append((node, token))
                if child is not None:
                    self.tokens.append(token)
                    self.parents.append(node)
                    self.depths.append(self.depths[node] + 1)
                    self.branches.append({})
            edge, node = self.branches[node][token]
            path.append(edge)
            if node is None:
                break
        return path

    def accept(self, argmax, best):
        """Follow the argmax from the tip as long as a draft had guessed it, and take the token after that too.

        Args:
            argmax, best: for each node from the tip on, in order.
        """
        node = start = self.tip
        self.passes += 1
        while node is not None and not self.done:
            token = argmax[node - start]
            self.accepted.append(token)
            self.logprob += best[node - start]
            _, node = self.branches[node].get(token, (None, None))


def decode(sources, candidates, verify):
    """Greedy output and log-probability for each query, and the log-probability of each of its candidates.

    Args:
        sources: [batch, tokens] int32, each row a query ending in EOS, then padding.
        candidates: [batch, n, tokens] int32, likewise; an all-padding row stands for no candidate.
        verify: callable (what `forest` returns) → argmax [asked] int64, its log-probability [asked], the labels'
            log-probability [edges]: one decoder pass.

    Returns:
        outputs: list of token lists; logprobs [batch] float32; candidate_logprobs [batch, n] float32 (-inf for no candidate);
        query_logprobs [batch] float32; passes [batch] int32: decoder passes each query took part in.
    """
    queries, paths = [], []
    for index, (source, texts) in enumerate(zip(sources.tolist(), candidates.tolist())):
        drafts = [strip(source) or [EOS], *map(strip, texts)]
        query = Query(index, [drafts[0], *filter(None, drafts[1:])])
        paths.append([query.graft(draft) for draft in drafts])
        queries.append(query)

    labels = advance(queries, verify)
    scores = np.full((len(queries), 1 + candidates.shape[1]), -np.inf, np.float32)
    for row, (drafts, logprob) in enumerate(zip(paths, labels)):
        for column, path in enumerate(drafts):
            if path:
                scores[row, column] = sum([logprob[edge] for edge in path])

    while active := [query for query in queries if not query.done]:
        for query in active:
            query.root()
            for tail in tails(query):
                query.graft(tail)
        advance(active, verify)
    logprobs = np.array([query.logprob for query in queries], np.float32)
    passes = np.array([query.passes for query in queries], np.int32)
    return [query.accepted for query in queries], logprobs, scores[:, 1:], scores[:, 0], passes


def generate(sources, candidates, call):
    """`decode` by the speller's two engines; the same results. `call` as in `verifier`."""
    return decode(sources, candidates, verifier(sources, call))


def verifier(sources, call):
    """The decoder's pass over the encoder's output for `sources`, as `decode` wants it.

    Args:
        call: (engine's model, inputs by name, names of outputs) → the outputs.
    """
    ids = sources.astype(np.int64)
    mask = (ids != PAD).astype(np.int64)
    (hidden,) = call("speller_encoder", {"input_ids": ids, "attention_mask": mask}, ["hidden"])

    def verify(trees):
        feeds = {"hidden": hidden, "attention_mask": mask, **trees}
        return call("speller_decoder", feeds, ["argmax", "best", "logprob"])

    return verify


def strip(ids):
    """A padded row as a list up to and including its first EOS; empty for padding alone."""
    tokens = [i for i in ids if i != PAD]
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


def tails(query):
    """Guesses of what follows `query.accepted`, most plausible first.

    A tail starts after a token equal to the last accepted one, near the same place, in any draft; or it assumes that the last
    accepted token stands for none, one, two or three tokens of the query. An output that repeats itself, as the model's for
    garbage does, may go on as it went on before.
    """
    done, last = len(query.accepted), query.accepted[-1]
    guesses = []
    for draft in query.drafts:
        places = [p for p, token in enumerate(draft[:-1]) if token == last and abs(p - done) <= 4]
        guesses += [draft[p + 1 :] for p in sorted(places, key=lambda p: abs(p + 1 - done))[:2]]
    source = query.drafts[0]
    guesses += [source[done + shift :] for shift in (0, 1, -1, 2) if 0 <= done + shift < len(source)]
    unique = list(dict.fromkeys(map(tuple, guesses)))[:MAX_TAILS]
    return [tail[: query.limit - done] for tail in (*unique, *repetition(query.accepted))]


def repetition(accepted):
    """What followed the last two tokens when they stood in `accepted` before, at most once."""
    pair = accepted[-2:]
    ends = (p for p in range(len(accepted) - 1, 1, -1) if accepted[p - 2 : p] == pair)
    return [tuple(accepted[p:]) for p in ends][:1]


def advance(queries, verify):
    """One decoder pass over the trees of `queries`; returns the log-probabilities of each tree's edges."""
    argmax, best, logprob = (part.tolist() for part in verify(forest(queries)))
    labels, node, edge = [], 0, 0
    for query in queries:
        nodes, edges = len(query.tokens) - query.tip, len(query.edges)
        query.accept(argmax[node : node + nodes], best[node : node + nodes])
        labels.append(logprob[edge : edge + edges])
        node, edge = node + nodes, edge + edges
    return labels


def forest(queries):
    """The decoder's inputs for one tree a query, by tensor name; shapes in `training/speller/graph.py`."""
    width = max(len(query.tokens) for query in queries)
    parents = np.zeros((len(queries), width), np.int64)
    live = np.zeros((len(queries), width), np.bool_)
    for row, query in enumerate(queries):
        parents[row, : len(query.parents)] = query.parents
        live[row, : len(query.parents)] = True
    visible = np.zeros((len(queries), width, width), np.bool_)
    row = np.arange(len(queries))
    for node in range(width):  # a parent stands before its children
        visible[:, node] = visible[row, parents[:, node]]
        visible[:, node, node] = True
    slots = np.flatnonzero(live)
    asked, edges, node = [], [], 0
    for query in queries:  # the accepted prefix has told what it had to tell
        first = len(asked) - query.tip
        asked += range(node + query.tip, node + len(query.tokens))
        edges += [(first + parent, token) for parent, token in query.edges]
        node += len(query.tokens)
    parents, labels = zip(*edges) if edges else ([0], [EOS])
    flat = {
        "rows": [query.index for query in queries],
        "tokens": [token for query in queries for token in query.tokens],
        "positions": [depth for query in queries for depth in query.depths],
        "asked": asked,
        "edges": parents,
        "labels": labels,
    }
    return {"visible": visible, "slots": slots, **{name: np.array(ids, np.int64) for name, ids in flat.items()}}
