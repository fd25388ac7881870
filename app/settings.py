"""Every setting of the gateway, read from the environment as `SEARCHBAR_<NAME>` and overridden by command-line options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, InstanceOf, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.index.address import ClusterAddress, index_address
from app.origins import parse_origins

ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Durations are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="SEARCHBAR_", frozen=True)

    host: str = Field("127.0.0.1", description="address to serve on")
    port: int = Field(8080, ge=0, le=65535, description="port to serve on; 0 picks a free one")
    socket: Path | None = Field(
        None, description="Unix-domain socket to serve on besides, without TLS: for a proxy on this machine; unset: none"
    )
    index: Annotated[Path | InstanceOf[ClusterAddress], NoDecode, BeforeValidator(index_address)] = Field(
        ROOT / "var" / "demo-index", description="index to serve: a directory, or qdrant://host:6333/collection"
    )
    index_processes: int = Field(
        1, ge=0, description="processes that answer from an index directory, 1 where it is changed; 0: the gateway's own"
    )
    index_api_key: SecretStr | None = Field(None, description="key of the Qdrant server, when the index is on one")
    triton: str | None = Field(
        None, description="running Triton: http://host:port, host:port (gRPC) or sagemaker://ENDPOINT; unset starts one"
    )
    triton_ca: Path | None = Field(None, description="PEM certificates that a running Triton is checked against; unset: no TLS")
    triton_cert: Path | None = Field(None, description="PEM certificate to show to a Triton that asks for one")
    triton_key: Path | None = Field(None, description="PEM key of that certificate")
    triton_device: Literal["cpu", "cuda"] = Field(
        "cpu", description="what the embedded Triton's models run on; cuda is an NVIDIA GPU (docs/deploy.md)"
    )
    triton_priority: Literal["idle", "low"] = Field(
        "idle", description="of the embedded Triton: idle never keeps a core from the gateway; low: nice 10 (docs/deploy.md)"
    )
    model_repository: Path = Field(ROOT / "triton" / "models", description="model repository of the embedded Triton")
    reranker: Path = Field(ROOT / "app" / "data" / "reranker.json", description="weights of the candidate reranker")
    deadline_s: float = Field(2.0, gt=0, description="time a request has; a search leaves out what is later")
    model_timeout_s: float = Field(2.0, gt=0, description="time one call to Triton may take")
    max_in_flight: int = Field(
        2, ge=1, description="Triton calls the speller may have in flight; requests arriving meanwhile share the next"
    )
    embedder_in_flight: int = Field(
        2, ge=1, description="the same of the embedder; 1 for one with a batcher on a CPU (docs/adr/0018-no-batcher.md)"
    )
    max_queue: int = Field(1024, ge=1, description="requests that may wait for a model before more are refused with 429")
    least_limit: int = Field(32, ge=1, description="requests in flight that are always let in; more while the models keep up")
    most_limit: int = Field(256, ge=0, description="requests in flight let in at most, whatever the latency; 0 lets in all")
    cache_entries: int = Field(
        50_000, ge=0, description="answers kept for each model; 0 asks the model every time, for identical queries at once too"
    )
    search_cache_entries: int = Field(
        20_000, ge=0, description="whole search answers kept, where no other process can change the index"
    )
    cache_ttl_s: float = Field(600.0, gt=0, description="how long an answer is kept")
    receive_s: float = Field(10.0, gt=0, description="time a client has to send a request's headers, and again its body")
    max_connections: int = Field(2048, ge=1, description="connections open at once; those over it are answered 429")
    realtime: bool = Field(
        False,
        description="real-time priority for the event loop: refusals without delay; takes root, CAP_SYS_NICE or rtprio",
    )
    drain_s: float = Field(0.0, ge=0, description="how long to go on answering, not ready any more, after SIGTERM")
    max_body_bytes: int = Field(64 * 1024, ge=1024, description="largest request body accepted")
    admin_key: SecretStr | None = Field(
        None, description="key of who may change the catalogue while it is served; unset: nobody"
    )
    max_bulk_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="largest body of a bulk update accepted")
    api_keys: Path | None = Field(None, description="file of API keys; unset: nobody is asked for one")
    cors_origins: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(parse_origins)] = Field(
        None, description="origins whose pages may call the API, commas between them; unset: none but its own"
    )
    tls_cert: Path | None = Field(None, description="PEM certificate chain to serve HTTPS with; unset: HTTP")
    tls_key: Path | None = Field(None, description="PEM key of the certificate")
    replace_threshold: float = Field(
        0.9, ge=0, le=1, description="confidence from which a correction is searched instead of the query"
    )
    suggest_threshold: float = Field(0.25, ge=0, le=1, description="confidence from which a correction is offered")
    certain_threshold: float = Field(
        0.95, ge=0, le=1, description="replace_threshold of readings with other digits and of queries of up to three letters"
    )
    otlp_endpoint: str | None = Field(
        None, description="OTLP/HTTP collector that traces go to, http://host:4318; unset: no tracing", pattern="^https?://"
    )
    trace_share: float = Field(1.0, ge=0, le=1, description="share of requests traced, of those without a `traceparent`")
    log_level: str = Field("info", description="debug, info, warning or error")
