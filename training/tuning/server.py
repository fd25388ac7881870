"""The embedded Triton on a copy of the model repository, its models loaded and unloaded on request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from app.errors import SetupError
from app.triton_server import EmbeddedTriton, Ports, Watch

ANY = "embedder"  # explicit control starts with some model
UNWATCHED = Watch(tick_s=86_400, canary_every_s=86_400)  # models come and go, which the supervisor would take for deaths


class Tuned:
    """A server whose models are loaded anew with each setting."""

    def __init__(self, triton: EmbeddedTriton, ports: Ports, client: httpx.AsyncClient) -> None:
        self.triton = triton
        self.ports = (ports.http, ports.grpc, ports.metrics)
        self._client = client

    async def load(self, models: Sequence[str]) -> None:
        """Loads the models in this order with the configurations on disk, after unloading all.

        Raises:
            SetupError: Triton refuses a configuration.
        """
        await self.unload()
        for model in models:
            answer = await self._client.post(f"/v2/repository/models/{model}/load", json={})
            if not answer.is_success:
                raise SetupError(f"Triton does not load {model}: {answer.text[:500]}")

    async def unload(self) -> None:
        """Unloads every model: the processors are for the next ones alone."""
        answer = await self._client.post("/v2/repository/index", json={"ready": True})
        for model in answer.raise_for_status().json():
            unloading = f"/v2/repository/models/{model['name']}/unload"
            (await self._client.post(unloading, json={})).raise_for_status()


@asynccontextmanager
async def serving(repository: Path, backends: Path) -> AsyncIterator[Tuned]:
    """Starts the server on `repository` under explicit model control; stops it in the end."""
    ports = Ports.free()
    triton = EmbeddedTriton(
        repository,
        models=[ANY],
        canary=None,
        backends=backends,
        ports=ports,
        extra_args=["--disable-auto-complete-config", "--strict-readiness=false"],
        control=True,  # models are loaded and unloaded
        watch=UNWATCHED,
    )
    await triton.start()
    try:
        async with httpx.AsyncClient(base_url=triton.http_url, timeout=60.0, trust_env=False) as client:
            yield Tuned(triton, ports, client)
    finally:
        await triton.stop()
