"""What reading and writing a Qdrant cluster share: its connections, its points, its manifest and its errors.

`cluster*.py` alone import `qdrant_client`. It raises gRPC's errors, its own, pydantic's and httpx's: `border` makes all of
them `IndexUnavailable`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import grpc
import numpy as np
import numpy.typing as npt
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from app.domain import Item
from app.errors import IndexUnavailable, SearchbarError
from app.index.address import ClusterAddress
from app.index.manifest import FORMAT, Manifest
from app.index.ngrams import Sparse, encode_item_name, encode_item_tags
from app.index.schema import DENSE, NAME, TAGS, point_id, to_payload

# gRPC would wait for up to two minutes before it tries again to reach a server that was away.
RECONNECT = {f"grpc.{name}_reconnect_backoff_ms": wait for name, wait in (("initial", 100), ("min", 100), ("max", 1000))}
METADATA = "searchbar"  # key of the manifest in the collection's metadata


class Connection(Protocol):
    """How clients of one server are made; the caller closes them."""

    def client(self) -> QdrantClient:
        """A client for start-up and builds, which block."""

    def async_client(self) -> AsyncQdrantClient:
        """A client for serving, of the event loop that first uses it."""


@dataclass(frozen=True, slots=True)
class Server:
    """`Connection` to the server at `address`.

    Attributes:
        api_key: sent with every call; None when the server asks for none.
        timeout_s: time a call may take, rounded up to whole seconds, which is what the server's protocol has. A caller whose
            deadline is shorter cancels its call, and with gRPC the server hears of that.
    """

    address: ClusterAddress
    api_key: str | None
    timeout_s: float

    def client(self) -> QdrantClient:
        """See `Connection.client`."""
        return QdrantClient(**self._options())

    def async_client(self) -> AsyncQdrantClient:
        """See `Connection.async_client`."""
        return AsyncQdrantClient(**self._options())

    def _options(self) -> dict[str, Any]:
        at = self.address
        return {
            "host": at.host,
            "port": at.port,
            "grpc_port": at.grpc_port,
            "prefer_grpc": at.prefer_grpc,
            "https": at.tls,
            # Given as a header, because the client warns of a key on an unencrypted connection in each process that has one.
            "headers": {"api-key": self.api_key} if self.api_key else None,
            "grpc_options": dict(RECONNECT),  # the client writes into it
            "timeout": math.ceil(self.timeout_s),
            "check_compatibility": False,  # it asks in a thread that outlives the client, and warns; the first call tells more
        }


def points(items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> list[models.PointStruct]:
    """Items with their L2-normalised embeddings, float32 [items, dimensions], as the cluster's points."""
    return [
        models.PointStruct(
            id=point_id(item.id),
            vector={DENSE: vector, NAME: sparse_vector(encode_item_name(item)), TAGS: sparse_vector(encode_item_tags(item))},
            payload=to_payload(item),
        )
        for item, vector in zip(items, vectors.tolist(), strict=True)
    ]


def sparse_vector(encoded: Sparse) -> models.SparseVector:
    return models.SparseVector(indices=encoded.indices, values=encoded.values)


def to_metadata(manifest: Manifest) -> dict[str, Any]:
    """The collection metadata that holds a manifest."""
    return {METADATA: asdict(manifest)}


def read_manifest(info: models.CollectionInfo, collection: str) -> Manifest:
    """The manifest in the metadata of a collection.

    Raises:
        IndexUnavailable: there is none, or one of another version of the program.
    """
    held = (info.config.metadata or {}).get(METADATA)
    cure = "build it with `searchbar index FILE --out qdrant://HOST:PORT/COLLECTION`"
    if not isinstance(held, dict):
        raise IndexUnavailable(f"the collection {collection} was not made by `searchbar index`: {cure}")
    if held.get("format") != FORMAT:
        raise IndexUnavailable(
            f"the collection {collection} is of format {held.get('format')}, this program reads format {FORMAT}: {cure}"
        )
    try:
        return Manifest(**held)
    except TypeError as exc:
        raise IndexUnavailable(f"the manifest of the collection {collection} is damaged ({exc}): {cure}") from exc


@contextmanager
def border(what: str) -> Iterator[None]:
    """Vendor exceptions become `IndexUnavailable` here; a server that is overloaded says when to come again."""
    try:
        yield
    except SearchbarError:
        raise
    except ResourceExhaustedResponse as exc:
        busy = IndexUnavailable(f"{what}: {exc}")
        busy.retry_after_s = float(exc.retry_after_s)
        raise busy from exc
    except grpc.RpcError as exc:
        code, details = exc.code(), exc.details()
        raise IndexUnavailable(f"{what}: {code.name}: {details}") from exc
    except Exception as exc:
        raise IndexUnavailable(f"{what}: {exc or type(exc).__name__}") from exc
