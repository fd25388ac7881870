"""The whole stack, started in order and stopped in reverse: inference server, index, lexicon, gateway."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.completion import Completions
from app.embedder import Embedder
from app.errors import SetupError
from app.gateway import CANARY, Gateway
from app.index.edge import EdgeIndex
from app.index.manifest import Manifest
from app.inference import InferenceBackend, text_tensor
from app.lexicon import Lexicon
from app.settings import Settings
from app.triton_client import TritonClient
from app.triton_server import EmbeddedTriton

log = logging.getLogger("searchbar")

EMBEDDER_WEIGHTS = Path("embedder_encoder") / "1" / "model.onnx"
EXTERNAL = "external"  # weights this process cannot see


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack; `triton` is None when an external server is used."""

    gateway: Gateway
    triton: EmbeddedTriton | None


async def canary(url: str) -> None:
    """One real inference on each top-level model of the server at `url`."""
    client = TritonClient(url)
    try:
        await infer_once(client)
    finally:
        await client.close()


async def infer_once(backend: InferenceBackend) -> None:
    text = text_tensor([[CANARY]])
    spelt = backend.infer("speller", {"QUERY": text, "CANDIDATES": text}, ["TEXT"], 2.0)
    embedded = backend.infer("embedder", {"QUERY": text}, ["EMBEDDING"], 2.0)
    _, answer = await asyncio.gather(spelt, embedded)
    if not np.isfinite(answer["EMBEDDING"]).all():
        raise SetupError("the embedder answered numbers that are not finite")


@asynccontextmanager
async def inference(settings: Settings) -> AsyncIterator[tuple[TritonClient, EmbeddedTriton | None]]:
    """A connected inference backend: the external Triton of the settings, or an embedded one started here."""
    async with AsyncExitStack() as cleanup:
        triton = None
        url = settings.triton
        if url is None:
            repository = settings.model_repository
            triton = EmbeddedTriton(
                repository,
                canary=canary,
                backends=repository.parent / "backends",
                extra_args=["--disable-auto-complete-config"],
            )
            cleanup.push_async_callback(triton.stop)
            await triton.start()
            url = triton.grpc_url
        client = TritonClient(url)
        cleanup.push_async_callback(client.close)
        yield client, triton


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Stack]:
    """The stack that `settings` describe, ready to answer.

    Raises:
        SetupError: the server, its models or the reranker are missing or broken.
        IndexUnavailable: there is no usable index.
    """
    async with AsyncExitStack() as cleanup:
        index = EdgeIndex.open(settings.index)
        cleanup.push_async_callback(index.close)
        items = list(index.items())
        lexicon, completions = Lexicon(items), Completions(items)
        client, triton = await cleanup.enter_async_context(inference(settings))
        gateway = Gateway.build(settings, client, index, lexicon, completions)
        cleanup.push_async_callback(gateway.close)
        if triton is not None:
            gateway.telemetry.restarts.set_function(lambda: triton.restarts)
            triton.on_restart = gateway.forget
        check_weights(settings, index.manifest)
        await check_dimensions(gateway.embedder, index)
        log.info("serving %d items from %s", await index.count(), settings.index)
        yield Stack(gateway, triton)


def fingerprint(settings: Settings) -> str:
    """What the index remembers of the embedder that made its vectors: a digest of its weights, or `EXTERNAL`."""
    if settings.triton is not None:
        return EXTERNAL
    try:
        return hashlib.sha256((settings.model_repository / EMBEDDER_WEIGHTS).read_bytes()).hexdigest()[:16]
    except OSError as exc:
        raise SetupError(f"the embedder's weights cannot be read ({exc}): check SEARCHBAR_MODEL_REPOSITORY") from exc


def check_weights(settings: Settings, manifest: Manifest) -> None:
    """Raises SetupError when the index was built with other weights than will embed the queries: they do not compare."""
    served = fingerprint(settings)
    if EXTERNAL not in (served, manifest.embedder) and served != manifest.embedder:
        raise SetupError(
            f"the index at {settings.index} was built with other embedder weights: "
            f"build it again with `searchbar index FILE --out {settings.index}` (it was made from {manifest.source})"
        )


async def check_dimensions(embedder: Embedder, index: EdgeIndex) -> None:
    """Raises SetupError when the index holds vectors of another length than the embedder makes."""
    found = len(await embedder.embed(CANARY))
    if found != index.dimensions:
        raise SetupError(
            f"the index holds vectors of {index.dimensions} dimensions but the embedder makes {found}: "
            "build it again with `searchbar index FILE --out DIR`"
        )


async def embed_passages(client: InferenceBackend, passages: list[str]) -> np.ndarray:  # type: ignore[type-arg]
    """Embeddings of any number of folded passages, float32 [n, dimensions], two Triton calls in flight."""
    embedder = Embedder(client, timeout_s=60.0, max_in_flight=2, max_queue=len(passages) + 1)
    step = 64
    batches = [passages[i : i + step] for i in range(0, len(passages), step)]
    found = await asyncio.gather(*(embedder.embed_batch(batch) for batch in batches))
    return np.stack([vector for batch in found for vector in batch])
