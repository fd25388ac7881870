"""The whole stack: inference server and index started at the same time, then lexicon and gateway; stopped in reverse."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from app import embedder, speller
from app.catalogue import LiveCatalogue
from app.completion import Completions
from app.embedder import Embedder
from app.engine_repository import require_installed
from app.errors import SetupError
from app.gateway import CANARY, Gateway
from app.index.address import ClusterAddress
from app.index.base import VectorIndex, WritableIndex
from app.index.manifest import EXTERNAL, Manifest
from app.index.process import IndexProcess
from app.inference import InferenceBackend, text_tensor
from app.lexicon import Lexicon
from app.settings import Settings
from app.tls import ClientTls, triton_tls
from app.tracing import triton_arguments
from app.triton_health import Canary
from app.triton_http import SCHEME as HTTP
from app.triton_http import TritonHttp
from app.triton_launcher import LOW
from app.triton_sagemaker import SCHEME as SAGEMAKER
from app.triton_sagemaker import SageMakerBackend
from app.triton_server import EmbeddedTriton, Ports

if TYPE_CHECKING:
    from app.index.cluster import ClusterIndex
    from app.index.edge import EdgeIndex
    from app.triton_client import TritonClient

log = logging.getLogger("searchbar")

ONE_PROCESS = "one_process"  # configuration of the two models that are asked (docs/adr/0028-one-process.md)
ONE_PROCESS_CUDA = "one_process_cuda"  # the same with the engines on a GPU
EMBEDDER_WEIGHTS = Path("embedder_encoder") / "1" / "model.onnx"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack; `triton` is None when an external server is used."""

    gateway: Gateway
    triton: EmbeddedTriton | None


def connected(url: str, tls: ClientTls | None = None) -> TritonHttp | TritonClient:
    """A Triton's client, by HTTP where `url` begins so, else by gRPC.

    Raises:
        SetupError: it begins so and is more than an address.
    """
    if url.startswith((HTTP, "https://")):
        return TritonHttp(url)
    from app.triton_client import TritonClient  # 12 MB that whoever speaks HTTP need not hold

    return TritonClient(url, tls)


async def canary(url: str) -> None:
    """One real inference on each top-level model of the server at `url`."""
    client = connected(url)
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


def embedded(
    repository: Path,
    *,
    canary: Canary | None,
    device: str = "cpu",
    priority: str = LOW,
    ports: Ports | None = None,
    extra_args: Sequence[str] = (),
) -> EmbeddedTriton:
    """A Triton of our own that serves speller and embedder of `repository`, each as one process; not started.

    Raises:
        SetupError: `device` is ``cuda`` and the repository lacks the graphs for it.
    """
    if device == "cuda":
        require_installed(repository)
    return EmbeddedTriton(
        repository,
        models=(speller.MODEL, embedder.MODEL),
        config_name=ONE_PROCESS_CUDA if device == "cuda" else ONE_PROCESS,
        canary=canary,
        priority=priority,
        ports=ports,
        extra_args=["--disable-auto-complete-config", *extra_args],
    )


@asynccontextmanager
async def inference(settings: Settings) -> AsyncIterator[tuple[InferenceBackend, EmbeddedTriton | None]]:
    """A connected inference backend: the external Triton or SageMaker endpoint of the settings, or an embedded Triton.

    Raises:
        SetupError: the embedded server does not start, or the external one and the settings disagree on TLS.
    """
    tls = triton_tls(settings)
    async with AsyncExitStack() as cleanup:
        triton = None
        url = settings.triton
        if url is None:
            arguments = triton_arguments(settings)
            triton = embedded(
                settings.model_repository,
                canary=canary,
                device=settings.triton_device,
                priority=settings.triton_priority,
                extra_args=arguments,
            )
            cleanup.push_async_callback(triton.stop)
            await triton.start()
            url = triton.http_url
        if url.startswith(SAGEMAKER):
            endpoint = SageMakerBackend(url)
            cleanup.push_async_callback(endpoint.close)
            yield endpoint, None
            return
        client = connected(url, tls)
        cleanup.push_async_callback(client.close)
        if triton is not None:
            client.on_unhealthy = triton.suspect
        await client.greet()
        yield client, triton


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Stack]:
    """The stack that `settings` describe, ready to answer.

    Raises:
        SetupError: the server, its models or the reranker are missing or broken.
        IndexUnavailable: there is no usable index.
    """
    async with AsyncExitStack() as cleanup:
        opening = asyncio.create_task(cleanup.enter_async_context(opened_index(settings)))
        starting = asyncio.create_task(cleanup.enter_async_context(inference(settings)))
        try:
            index, (client, triton) = await asyncio.gather(opening, starting)
        except BaseException:
            for task in (opening, starting):
                task.cancel()
            await asyncio.gather(opening, starting, return_exceptions=True)
            raise
        items = [item async for item in index.items()]
        lexicon, completions = Lexicon(items), Completions(items)
        gateway = Gateway.build(settings, client, index, lexicon, completions)
        if settings.admin_key:
            writable = cast(WritableIndex, index)  # so it was opened
            gateway.catalogue = LiveCatalogue(writable, gateway.embedder, gateway.speller, completions, gateway.search.forget)
        cleanup.push_async_callback(gateway.close)
        if triton is not None:
            gateway.telemetry.restarts.set_function(lambda: triton.restarts)
            triton.on_restart = gateway.forget
        if isinstance(index, IndexProcess):
            gateway.telemetry.index_restarts.set_function(lambda: index.restarts)
        check_weights(settings, index.manifest)
        await check_dimensions(gateway.embedder, index)
        log.info("serving %d items from %s", await index.count(), settings.index)
        yield Stack(gateway, triton)


@asynccontextmanager
async def opened_index(settings: Settings) -> AsyncIterator[EdgeIndex | IndexProcess | ClusterIndex]:
    """See `open_index`; closed at the end."""
    index = await open_index(settings)
    try:
        yield index
    finally:
        await index.close()


async def open_index(settings: Settings) -> EdgeIndex | IndexProcess | ClusterIndex:
    """The index of the settings: in processes of its own, in this one, or on a Qdrant server, which is asked for it here.

    With an admin key it is a `WritableIndex`, and the embedded one is locked for this process.

    Raises:
        IndexUnavailable: there is no usable index, or the server is away.
        SetupError: another process has the embedded index open, and one of the two changes it; or the settings want several
            processes for an index that is changed.
    """
    if not isinstance(settings.index, ClusterAddress):
        alone = settings.admin_key is not None
        if settings.index_processes:
            return await IndexProcess.start(settings.index, alone=alone, processes=settings.index_processes)
        from app.index.edge import EdgeIndex  # an engine that the gateway's process needs here alone
        from app.index.edge_live import LiveEdgeIndex

        return LiveEdgeIndex.open(settings.index) if alone else EdgeIndex.open(settings.index)
    from app.index.cluster import ClusterIndex  # half a second that the embedded index need not wait for
    from app.index.cluster_engine import Server

    key = settings.index_api_key.get_secret_value() if settings.index_api_key else None
    return ClusterIndex.open(Server(settings.index, key, settings.deadline_s), settings.index.collection)


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


async def check_dimensions(embedder: Embedder, index: VectorIndex) -> None:
    """Raises SetupError when the index holds longer vectors than the embedder makes; shorter ones are fine (Matryoshka)."""
    found = len(await embedder.embed(CANARY))
    if found < index.dimensions:
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
