"""Where an index lives: a directory, or a collection of a Qdrant cluster written as one URL.

    qdrant://host:6333/collection        gRPC on port 6334 beside it
    qdrants://host/collection            the same through TLS
    qdrant://host/collection?prefer_grpc=false&shards=6&replicas=2&quantisation=int8&on_disk=true

Options after ``?`` are `grpc_port`, `prefer_grpc` and the fields of `Layout`, which matter to `searchbar index` alone: one URL
serves both commands. The key is never part of it: SEARCHBAR_INDEX_API_KEY.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from app.errors import InvalidInput

Quantisation = Literal["none", "int8", "binary"]
SCHEMES = {"qdrant": False, "qdrants": True}  # whether the connection is encrypted


@dataclass(frozen=True, slots=True)
class Layout:
    """How a new collection is spread and stored.

    Attributes:
        shards: parts that the points are divided into by id; at least one for each node.
        replicas: copies of each shard, on different nodes.
        write_consistency: replicas that must have a change before it is acknowledged.
        quantisation: what the graph is searched with; the best candidates are then scored with the full vectors.
        on_disk: full vectors and payload on disk, quantised vectors in memory.
        hnsw_m: edges of a node in the graph.
        hnsw_ef_construct: neighbours considered when the graph is built.
    """

    shards: int = 1
    replicas: int = 1
    write_consistency: int = 1
    quantisation: Quantisation = "none"
    on_disk: bool = False
    hnsw_m: int = 16
    hnsw_ef_construct: int = 128


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """A collection of a Qdrant server or of any node of a cluster; `str` gives the URL to it, without options."""

    host: str
    collection: str
    port: int = 6333
    grpc_port: int = 6334
    tls: bool = False
    prefer_grpc: bool = True
    layout: Layout = Layout()

    def __str__(self) -> str:
        return f"qdrant{'s' if self.tls else ''}://{self.host}:{self.port}/{self.collection}"

    @classmethod
    def parse(cls, url: str) -> ClusterAddress:
        """The address that `url` names.

        Raises:
            InvalidInput: it is no such URL, or an option is unknown or out of range.
        """
        try:
            parts = urlsplit(url)
            host, port, collection = parts.hostname, parts.port or 6333, parts.path.strip("/")
        except ValueError as exc:
            raise InvalidInput(f"{url}: {exc}") from exc
        if parts.scheme not in SCHEMES or not host or not collection or "/" in collection or parts.username or parts.fragment:
            raise InvalidInput(f"{url} is not the URL of a collection: write qdrant://HOST:PORT/COLLECTION")
        of_layout = {field.name: field.default for field in fields(Layout)}
        known: dict[str, Any] = {"grpc_port": 6334, "prefer_grpc": True, **of_layout}
        given: dict[str, Any] = {}
        for name, text in parse_qsl(parts.query, keep_blank_values=True):
            if name not in known:
                raise InvalidInput(f"{url}: unknown option {name}; there are {', '.join(known)}")
            given[name] = _option(name, text, known[name])
        layout = Layout(**{name: given.pop(name) for name in of_layout if name in given})
        return cls(host, collection, port, tls=SCHEMES[parts.scheme], layout=layout, **given)


def _option(name: str, text: str, default: object) -> bool | int | str:
    """The value of an option, of its default's type."""
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise InvalidInput(f"{name}={text}: write true or false")
        return text == "true"
    if isinstance(default, int):
        if not text.isascii() or not text.isdigit() or not int(text):
            raise InvalidInput(f"{name}={text}: write a number from 1 on")
        return int(text)
    if text not in get_args(Quantisation):
        raise InvalidInput(f"{name}={text}: write one of {', '.join(get_args(Quantisation))}")
    return text


def index_address(where: str | Path | ClusterAddress) -> Path | ClusterAddress:
    """The address that a setting or an option names: a URL is a cluster's, all else a directory.

    Raises:
        InvalidInput: see `ClusterAddress.parse`.
    """
    if isinstance(where, str):
        return ClusterAddress.parse(where) if "://" in where else Path(where)
    return where
