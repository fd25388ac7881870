"""One request's trace as a waterfall: a collector, the whole stack and one search, on free ports of this machine.

    .venv/bin/python -P docs/trace.py "bilie jean micheal jackson"

The collector takes OTLP over HTTP, as OpenTelemetry's own does on port 4318: protobuf from the gateway, JSON from Triton.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

SEARCHBAR = str(Path(sys.executable).parent / "searchbar")
START_S = 120.0
COLUMNS = 40  # of the bars


@dataclass(frozen=True)
class Seen:
    """A span as a collector gets it; ids in hexadecimal, times in nanoseconds since the epoch."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    attributes: Mapping[str, object]
    links: tuple[str, ...]
    events: tuple[tuple[str, int], ...]
    failed: bool


class Collector:
    """Keeps every span that it is sent.

    Attributes:
        endpoint: its base URL, for SEARCHBAR_OTLP_ENDPOINT.
        spans: what has come so far.
    """

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.spans.extend(list(read(body, self.headers["content-type"])))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Collector:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trace(self, trace: str) -> list[Seen]:
        """The spans of one trace, in the order in which they began."""
        return sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.began)


def read(body: bytes, content_type: str) -> Iterator[Seen]:
    """The spans of an ExportTraceServiceRequest."""
    if "json" in content_type:
        request = json_format.ParseDict(with_bytes(json.loads(body)), ExportTraceServiceRequest(), ignore_unknown_fields=True)
    else:
        request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        service = str(attributes(resource.resource.attributes).get("service.name", ""))
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield Seen(
                service,
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                attributes(span.attributes),
                tuple(link.span_id.hex() for link in span.links),
                tuple((event.name, event.time_unix_nano) for event in span.events),
                span.status.code == 2,
            )


def with_bytes(found: Any) -> Any:
    """OTLP's JSON with its hexadecimal ids in base64, as protobuf's own JSON has bytes."""
    if isinstance(found, list):
        return [with_bytes(item) for item in found]
    if not isinstance(found, dict):
        return found
    ids = ("traceId", "spanId", "parentSpanId")
    return {k: base64.b64encode(bytes.fromhex(v)).decode() if k in ids else with_bytes(v) for k, v in found.items()}


def attributes(pairs: object) -> dict[str, object]:
    return {pair.key: value(pair.value) for pair in pairs}  # type: ignore[attr-defined]


def value(of: AnyValue) -> object:
    return getattr(of, of.WhichOneof("value") or "string_value")


def waterfall(spans: list[Seen]) -> str:
    """A line for each span: its place in the tree, its service, when it began and how long it took, and a bar."""
    first = min(span.began for span in spans)
    total = max(span.ended for span in spans) - first
    known = {span.id for span in spans}
    lines = []

    def draw(span: Seen, depth: int) -> None:
        at, width = (span.began - first) * COLUMNS // total, max(1, (span.ended - span.began) * COLUMNS // total)
        bar = (" " * at + "█" * width)[:COLUMNS].ljust(COLUMNS)
        began_ms, took_ms = (span.began - first) / 1e6, (span.ended - span.began) / 1e6
        name = "  " * depth + label(span)
        lines.append(f"{name:<42} {span.service.removeprefix('searchbar-'):<8} {began_ms:6.2f} {took_ms:6.2f} ms │{bar}│")
        for child in (s for s in spans if s.parent == span.id):
            draw(child, depth + 1)

    for root in (span for span in spans if span.parent not in known):
        draw(root, 0)
    return "\n".join([f"{'span':<42} {'service':<8} {'began':>6} {'took':>6}", *lines])


def label(span: Seen) -> str:
    """The span's name, with what it was about."""
    notes = [
        f"batch of {span.attributes['searchbar.batch.size']}" if "searchbar.batch.size" in span.attributes else "",
        str(span.attributes.get("searchbar.cache", "")) and f"cache {span.attributes['searchbar.cache']}",
    ]
    shown = ", ".join(note for note in notes if note)
    name = "batch" if shown.startswith("batch") else span.name
    return shown if name == "batch" and shown else f"{name} ({shown})" if shown else name


@contextmanager
def traced_stack(collector: Collector, index: Path | None = None) -> Iterator[str]:
    """URL of a stack, gateway and embedded Triton, that sends its spans to `collector`; without a cache."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "serve.log"
        environment = {**os.environ, "SEARCHBAR_OTLP_ENDPOINT": collector.endpoint, "SEARCHBAR_LOG_LEVEL": "warning"}
        command = [SEARCHBAR, "serve", "--port", "0", *(("--index", str(index)) if index else ())]
        with log.open("wb") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment)
        try:
            yield address(process, log)
        finally:
            process.terminate()
            process.wait(60)


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The URL that a starting server announces. Raises SystemExit with its log when it does not."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if (found := re.search(r"Open (http://[\d.:]+)", log.read_text())) and answers(found[1]):
            return found[1]
        time.sleep(0.2)
    process.kill()
    sys.exit(f"searchbar serve did not start:\n{log.read_text()}")


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def settled(collector: Collector, trace: str, within_s: float = 30.0) -> list[Seen]:
    """The spans of a trace once Triton has sent its own for every call to it and no more have come for two seconds."""
    deadline = time.monotonic() + within_s
    spans: list[Seen] = []
    while time.monotonic() < deadline:
        time.sleep(2.5)  # both export once a second
        before, spans = spans, collector.trace(trace)
        calls = {span.id for span in spans if span.name.startswith("ModelInfer ")}
        if len(spans) == len(before) and calls and calls <= {span.parent for span in spans}:
            return spans
    return spans


def main(query: str) -> None:
    """Prints the waterfall of one search for `query`, after a few others that warm the stack up."""
    with Collector() as collector, traced_stack(collector) as url, httpx.Client(base_url=url, timeout=30) as client:
        for warm in ("halo", "smels like teen sprit", "bohemian rapsody"):
            client.post("/v1/search", json={"query": warm}).raise_for_status()
        answer = client.post("/v1/search", json={"query": query}).raise_for_status()
        print(waterfall(settled(collector, answer.headers["traceresponse"].split("-")[1])))


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "bilie jean micheal jackson")
