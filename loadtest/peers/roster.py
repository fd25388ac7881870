"""The servers that are compared: how each is started, asked and read, and the settings tried for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.settings import ROOT
from loadtest.connections import Request
from loadtest.server import SEARCHBAR

HERE = Path(__file__).parent
TRIED = HERE / "tried.json"  # written by `searchbar compare --tune`
BIN = ROOT / ".venv-compare" / "bin"
INFINITY = ROOT / ".venv-infinity" / "bin"
WORK = ROOT / "var" / "compare"
APART = {
    "PYTHONPATH": "",  # of whoever started us: this repository's triton/ would shadow the package that PyTorch imports
    "DO_NOT_TRACK": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": str(WORK / "hf"),
    "TOKENIZERS_PARALLELISM": "false",
}
FP32, INT8 = "fp32, PyTorch", "int8, ONNX Runtime"


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to start a server: arguments after its command, and environment."""

    name: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that answers a query with its embedding over HTTP.

    Attributes:
        letter: of the comparison's list.
        command: starts it; ``{port}`` is replaced.
        ready: path that answers 200 once it serves.
        path, body: of the request for one query.
        read: the vector in a decoded answer.
        settings: those tried; which is used, `chosen` says.
        prepare: command that must run before.
        environment: besides that of the setting.
    """

    name: str
    letter: str
    title: str
    weights: str
    command: tuple[str, ...]
    ready: str
    path: str
    body: Callable[[str], Any]
    read: Callable[[Any], Sequence[float]]
    settings: tuple[Setting, ...]
    prepare: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: APART)

    def request(self, query: str) -> Request:
        return Request(self.path, json.dumps(self.body(query)).encode())

    def missing(self) -> str:
        """The program it lacks; empty when it is installed."""
        programs = (part for part in self.command if part.startswith(str(ROOT / ".venv")))  # `prepare` makes the rest
        return next((part for part in programs if not Path(part).exists()), "")


def chosen(peer: Peer, tried: Path = TRIED) -> Setting:
    """The setting that carried most when they were tried; the first while none was."""
    known = json.loads(tried.read_text(encoding="utf-8"))["peers"] if tried.exists() else {}
    carried = {row["setting"]: row["max_tps"] for row in known.get(peer.name, ())}
    return max(peer.settings, key=lambda setting: carried.get(setting.name, 0.0))


def uvicorn(module: str) -> tuple[str, ...]:
    command = (str(BIN / "uvicorn"), f"{module}:app", "--app-dir", str(HERE), "--host", "127.0.0.1", "--port", "{port}")
    return (*command, "--no-access-log", "--log-level", "warning")


def query(text: str) -> dict[str, str]:
    return {"query": text}


def embedding(answer: Any) -> Sequence[float]:
    found: Sequence[float] = answer["embedding"]
    return found


def several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 'es' if what.endswith('s') else 's'}"


def by_hand() -> tuple[Setting, ...]:
    """Processes, threads of each, and where the model runs: Starlette's thread pool or the event loop."""
    return tuple(
        Setting(
            f"{several(workers, 'process')}, {several(threads, 'thread')}, {endpoint} endpoint",
            ("--workers", str(workers)),
            {"PEER_THREADS": str(threads), "PEER_ENDPOINT": endpoint},
        )
        for workers, threads in ((1, 1), (1, 2), (2, 1))
        for endpoint in ("sync", "async")
    )


def infinity_settings() -> tuple[Setting, ...]:
    return tuple(
        Setting(
            f"batches of {size}{', graph as it is' * plain}",
            ("--batch-size", str(size), *(["--onnx-disable-optimize"] * plain)),
        )
        for size, plain in ((32, False), (32, True), (8, True), (64, True))
    )


def litserve_settings() -> tuple[Setting, ...]:
    return tuple(
        Setting(
            f"{several(workers, 'worker')}, {several(servers, 'HTTP process')}, {1000 * wait:g} ms wait{', ZeroMQ' * fast}",
            ("--workers", str(workers), "--api-servers", str(servers), "--wait", str(wait), *(["--fast-queue"] * fast)),
        )
        for workers, servers, wait, fast in (
            (1, 1, 0.001, False),
            (1, 1, 0.001, True),
            (1, 1, 0.005, True),
            (1, 2, 0.001, True),
            (2, 1, 0.001, True),
            (2, 2, 0.001, True),
        )
    )


def bentoml_settings() -> tuple[Setting, ...]:
    return tuple(
        Setting(
            f"{several(workers, 'worker')}, batches of {batch}, {ms} ms at most",
            environment={"PEER_WORKERS": str(workers), "PEER_BATCH": str(batch), "PEER_LATENCY_MS": str(ms)},
        )
        for workers, batch, ms in ((1, 32, 1000), (2, 32, 1000), (1, 64, 100), (2, 16, 100))
    )


def ray_settings() -> tuple[Setting, ...]:
    """Ray's set of switches for throughput, without its direct ingress, which wants HAProxy in front."""
    fast = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}
    return tuple(
        Setting(
            f"{several(replicas, 'replica')}, {1000 * wait:g} ms wait{', throughput optimised' * optimised}",
            ("--replicas", str(replicas), "--wait", str(wait)),
            fast if optimised else {},
        )
        for replicas, wait, optimised in (
            (1, 0.001, False),
            (1, 0.001, True),
            (1, 0.005, True),
            (1, 0.0, True),
            (2, 0.001, True),
        )
    )


OURS = Peer(
    name="ours",
    letter="g",
    title="Searchbar",
    weights=INT8,
    command=(str(SEARCHBAR), "serve", "--port", "{port}"),
    ready="/readyz",
    path="/v1/embed",
    body=query,
    read=lambda answer: answer["embeddings"][0],
    settings=(Setting("as shipped, cache off", (), {"SEARCHBAR_CACHE_ENTRIES": "0", "SEARCHBAR_LOG_LEVEL": "warning"}),),
    environment={},
)
PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name="fastapi",
            letter="a",
            title="FastAPI + transformers",
            weights=FP32,
            command=uvicorn("fastapi_transformers"),
            ready="/readyz",
            path="/embed",
            body=query,
            read=embedding,
            settings=by_hand(),
        ),
        Peer(
            name="fastapi-onnx",
            letter="a*",
            title="FastAPI + ONNX Runtime",
            weights=INT8,
            command=uvicorn("fastapi_onnx"),
            ready="/readyz",
            path="/embed",
            body=query,
            read=embedding,
            settings=by_hand(),
        ),
        Peer(
            name="infinity",
            letter="b",
            title="Infinity",
            weights=INT8,
            command=(
                *("env", "-C", str(WORK / "infinity"), str(INFINITY / "infinity_emb"), "v2", "--model-id", "."),
                *("--served-model-name", "embedder", "--engine", "optimum", "--device", "cpu", "--pooling-method", "mean"),
                *("--no-bettertransformer", "--log-level", "warning", "--host", "127.0.0.1", "--port", "{port}"),
            ),
            ready="/health",
            path="/embeddings",
            body=lambda text: {"model": "embedder", "input": text},
            read=lambda answer: answer["data"][0]["embedding"],
            settings=infinity_settings(),
            prepare=(str(INFINITY / "python"), str(HERE / "infinity_model.py"), str(WORK / "infinity")),
        ),
        Peer(
            name="litserve",
            letter="c",
            title="LitServe",
            weights=INT8,
            command=(str(BIN / "python"), str(HERE / "litserve_onnx.py"), "--port", "{port}"),
            ready="/health",
            path="/predict",
            body=query,
            read=embedding,
            settings=litserve_settings(),
        ),
        Peer(
            name="bentoml",
            letter="d",
            title="BentoML",
            weights=INT8,
            command=(
                *(str(BIN / "bentoml"), "serve", "bentoml_onnx:Embed", "--working-dir", str(HERE)),
                *("--host", "127.0.0.1", "--port", "{port}"),
            ),
            ready="/readyz",
            path="/embed",
            body=lambda text: {"queries": [text]},
            read=lambda answer: answer[0],
            settings=bentoml_settings(),
        ),
        Peer(
            name="ray-serve",
            letter="e",
            title="Ray Serve",
            weights=INT8,
            command=(str(BIN / "python"), str(HERE / "ray_serve_onnx.py"), "--port", "{port}"),
            ready="/-/healthz",
            path="/",
            body=query,
            read=embedding,
            settings=ray_settings(),
        ),
        OURS,
    )
}
