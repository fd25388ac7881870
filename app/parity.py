"""Whether one inference server answers as another does: the gate that a TensorRT plan passes before it may serve.

Both are asked the same queries through the same ensembles that the gateway asks. What is compared is what reaches a listener:
the speller's text and log-probabilities, the embedding, and which items of the catalogue are nearest to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from app.embedder import MODEL as EMBEDDER
from app.errors import InvalidInput
from app.inference import Array, InferenceBackend, text_tensor
from app.parity_queries import Probe
from app.settings import Settings
from app.speller import MODEL as SPELLER
from app.speller import OUTPUTS
from app.stack import canary, connected, embedded

LOCAL, CUDA = "local", "cuda"
BATCHES = (1, 4, 16, 2, 32)  # sizes in turn: one engine may take another kernel for each
NEAREST = 10
EXAMPLES = 20
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a candidate may be off; docs/adr/0015-tensorrt.md says where the numbers come from.

    Attributes:
        texts: least share of queries with the very same corrected text.
        logprob: most that 99 % of the log-probabilities (natural logarithm, summed over a text) may differ by.
        cosine: least cosine between the two embeddings of any query.
        overlap: least share of the ten nearest items that are the same, over all queries.
    """

    texts: float = 0.99
    logprob: float = 0.25
    cosine: float = 0.999
    overlap: float = 0.98


@dataclass(frozen=True, slots=True)
class Answers:
    """Of n queries: texts, log-probabilities float64 [n, 2 + readings] (greedy, query, readings), embeddings float32 [n, d]."""

    texts: list[str]
    logprobs: Array
    embeddings: Array


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; `failures` names each tolerance that was not kept, and is empty for a pass."""

    queries: int
    texts: float
    logprob_p99: float
    logprob_max: float
    cosine_min: float
    cosine_mean: float
    overlap: float
    not_finite: int
    tolerances: Tolerances
    failures: list[str]
    different: list[dict[str, str]]

    @property
    def passed(self) -> bool:
        return not self.failures

    def as_dict(self) -> dict[str, object]:
        return {"passed": self.passed, **asdict(self)}


@asynccontextmanager
async def server(where: str, settings: Settings) -> AsyncIterator[InferenceBackend]:
    """The Triton at `where`: HOST:PORT, or an embedded one that is started on a model repository: a folder, or
    that of the settings, `local` on the CPU and `cuda` on a GPU.

    Raises:
        InvalidInput: it is none of these.
        SetupError: the embedded server does not start.
    """
    repository = _repository(where, settings)
    async with AsyncExitStack() as cleanup:
        url = where
        if repository is not None:
            triton = embedded(repository, canary=canary, device="cuda" if where == CUDA else "cpu")
            cleanup.push_async_callback(triton.stop)
            await triton.start()
            url = triton.http_url
        client = connected(url)
        cleanup.push_async_callback(client.close)
        yield client


def _repository(where: str, settings: Settings) -> Path | None:
    """The repository to start a server on; None for the address of a running one."""
    if where in (LOCAL, CUDA):
        return settings.model_repository
    if Path(where).is_dir():
        return Path(where)
    if not where.rpartition(":")[2].isdigit():
        raise InvalidInput(
            f"{where}: it is `{LOCAL}`, `{CUDA}`, the folder of a model repository, or a Triton at HOST:PORT (gRPC) or "
            "http://HOST:PORT"
        )
    return None


async def ask(backend: InferenceBackend, probes: Sequence[Probe]) -> Answers:
    """The answers to `probes`, in batches of several sizes, one call at a time.

    Raises:
        ModelUnavailable, Overloaded, DeadlineExceeded, ModelFailed: see `InferenceBackend.infer`.
    """
    texts: list[str] = []
    logprobs, embeddings, start, sizes = [], [], 0, cycle(BATCHES)
    while start < len(probes):
        batch = probes[start : start + next(sizes)]
        start += len(batch)
        inputs = {
            "QUERY": text_tensor([[probe.query] for probe in batch]),
            "CANDIDATES": text_tensor([list(probe.readings) for probe in batch]),
        }
        spelt = await backend.infer(SPELLER, inputs, OUTPUTS, TIMEOUT_S)
        texts += [text.decode(errors="replace") for text in spelt["TEXT"][:, 0]]
        logprobs.append(np.concatenate([spelt[name] for name in OUTPUTS[1:]], axis=1, dtype=np.float64))
        embeddings.append(await embed(backend, [probe.query for probe in batch]))
    return Answers(texts, np.concatenate(logprobs), np.concatenate(embeddings))


async def embed(backend: InferenceBackend, texts: Sequence[str], batch: int = 64) -> Array:
    """Embeddings of folded texts, float32 [n, dimensions]."""
    found = []
    for start in range(0, len(texts), batch):
        query = text_tensor([[text] for text in texts[start : start + batch]])
        found.append((await backend.infer(EMBEDDER, {"QUERY": query}, ["EMBEDDING"], TIMEOUT_S))["EMBEDDING"])
    return np.concatenate(found)


def compare(probes: Sequence[Probe], reference: Answers, candidate: Answers, passages: Array, tolerances: Tolerances) -> Report:
    """Judge `candidate` by `reference`; `passages` [items, d] are the items' embeddings as the reference has them.

    Numbers that are not finite count as wrong, whatever the tolerances.
    """
    same = np.array([a == b for a, b in zip(reference.texts, candidate.texts, strict=True)])
    off = np.abs(reference.logprobs - candidate.logprobs)
    off[~same, 0] = 0.0  # the greedy readings differ: their probabilities are those of different texts
    usable = np.isfinite(candidate.embeddings).all(axis=1)
    ours = np.where(usable[:, None], candidate.embeddings, 0.0)
    cosine = (reference.embeddings * ours).sum(axis=1) / np.maximum(
        np.linalg.norm(reference.embeddings, axis=1) * np.linalg.norm(ours, axis=1), 1e-12
    )
    finite = np.isfinite(off)
    found = {
        "texts": float(same.mean()),
        "logprob_p99": float(np.quantile(off[finite], 0.99)) if finite.any() else float("nan"),
        "logprob_max": float(off[finite].max()) if finite.any() else float("nan"),
        "cosine_min": float(cosine.min()),
        "cosine_mean": float(cosine.mean()),
        "overlap": overlap(nearest(reference.embeddings, passages), nearest(ours, passages)),
    }
    broken = int((~finite).any(axis=1).sum() + (~usable).sum())
    kept = {
        f"texts identical {found['texts']:.4f} < {tolerances.texts}": found["texts"] >= tolerances.texts,
        f"log-probabilities off by {found['logprob_p99']:.4f} > {tolerances.logprob}": found["logprob_p99"]
        <= tolerances.logprob,
        f"cosine {found['cosine_min']:.6f} < {tolerances.cosine}": found["cosine_min"] >= tolerances.cosine,
        f"top-{NEAREST} overlap {found['overlap']:.4f} < {tolerances.overlap}": found["overlap"] >= tolerances.overlap,
        f"{broken} answers with numbers that are not finite": broken == 0,
    }
    different = [
        {"query": probes[i].query, "reference": reference.texts[i], "candidate": candidate.texts[i]}
        for i in np.flatnonzero(~same)[:EXAMPLES]
    ]
    failures = [failure for failure, holds in kept.items() if not holds]
    return Report(len(probes), **found, not_finite=broken, tolerances=tolerances, failures=failures, different=different)


def nearest(queries: Array, passages: Array) -> Array:
    """Indices of the `NEAREST` passages of each query by inner product, int64 [n, NEAREST], in no order."""
    return np.argpartition(-(queries @ passages.T), NEAREST - 1, axis=1)[:, :NEAREST]


def overlap(one: Array, other: Array) -> float:
    """Share of the entries of each row of `one` that the same row of `other` has, over all rows."""
    return float(np.mean([len(np.intersect1d(a, b)) / NEAREST for a, b in zip(one, other, strict=True)]))
