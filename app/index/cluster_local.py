"""A Qdrant server in memory, for tests: qdrant-client's own local mode, which runs its requests in Python."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from qdrant_client import AsyncQdrantClient, QdrantClient


class LocalServer:
    """`cluster_engine.Connection` whose clients see the same collections, as those of one server do.

    Why it is enough for the contract: it evaluates the same request models (sparse vectors with IDF, order by payload,
    filters, batches, aliases, collection metadata) exactly, by brute force. What it has not: gRPC and HTTP, time limits and
    keys, shards and replicas, quantisation, the graph, payload indices (which a server needs to order by), optimisers.
    """

    def __init__(self) -> None:
        self._held = SimpleNamespace(collections={}, aliases={})

    def client(self) -> QdrantClient:
        """See `Connection.client`."""
        client = QdrantClient(":memory:")
        self._share(client._client)
        return client

    def async_client(self) -> AsyncQdrantClient:
        """See `Connection.async_client`."""
        client = AsyncQdrantClient(":memory:")
        self._share(client._client)
        return client

    def _share(self, engine: Any) -> None:
        """Local mode has one client a store: this one's tables become the server's."""
        held = self._held

        def table(name: str) -> property:
            return property(lambda _: getattr(held, name), lambda _, value: setattr(held, name, value))

        shared = {
            "collections": table("collections"),
            "aliases": table("aliases"),
            "create_payload_index": lambda *_, **__: None,  # has no effect in local mode but a warning
        }
        engine.__class__ = type(f"Shared{type(engine).__name__}", (type(engine),), shared)
