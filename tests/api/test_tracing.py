"""Spans of the gateway, over OTLP to a collector; with Triton's in tests/integration/test_tracing.py."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app import spans
from app.api import create_app
from app.completion import Completions
from app.errors import ModelFailed
from app.fakes import FakeIndex, FakeTriton
from app.gateway import Gateway
from app.lexicon import Lexicon
from app.settings import Settings
from app.tracing import OtelTracer, tracing, triton_arguments
from tests.tracing import trace

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
QUERY = {"query": "bilie jean micheal jackson"}


class Traced:
    """The application over fakes with a tracer and the collector that it sends to."""

    def __init__(self, collector: Any, tracer: OtelTracer, client: httpx.AsyncClient, gateway: Gateway) -> None:
        self.collector, self.tracer, self.client, self.gateway = collector, tracer, client, gateway

    async def spans(self) -> list[Any]:
        """All spans, sent and collected."""
        await self.tracer.close()
        return sorted(self.collector.spans, key=lambda span: span.began)


@pytest.fixture
async def traced(settings: Settings, triton: FakeTriton, index: FakeIndex) -> AsyncIterator[Traced]:
    settings = settings.model_copy(update={"max_in_flight": 1})
    gateway = Gateway.build(settings, triton, index, Lexicon(index.rows), Completions(index.rows))
    with trace.Collector() as collector:
        tracer = OtelTracer(collector.endpoint, 1.0)
        transport = httpx.ASGITransport(create_app(gateway, tracer=tracer), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://searchbar") as client:
            yield Traced(collector, tracer, client, gateway)
        await tracer.close()
    await gateway.close()


def named(found: list[Any], name: str) -> list[Any]:
    return [span for span in found if span.name == name]


async def test_a_request_is_one_span_in_its_callers_trace(traced: Traced) -> None:
    """`traceparent` is continued, `traceresponse` names the span, and each stage of the search is a span within it."""
    answer = await traced.client.post("/v1/search", json=QUERY, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"})
    found = await traced.spans()
    (request,) = named(found, "POST /v1/search")
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{request.id}-01"
    assert (request.trace, request.parent, request.service) == (TRACE, CALLER, "searchbar-gateway")
    assert request.attributes["http.response.status_code"] == 200 and request.attributes["http.route"] == "/v1/search"
    stages = [span.name for span in found if span.parent == request.id]
    assert sorted(stages) == ["embedder", "embedder", "index", "index", "speller"]  # as typed and as corrected
    assert {span.trace for span in found} == {TRACE}
    assert len(named(found, "batch")) == 3


@pytest.mark.parametrize("path", ["/v1/suggest?q=bil", "/v1/search?q=halo", "/livez", "/metrics"])
async def test_what_the_caller_does_not_sample_and_probes_leave_no_span(traced: Traced, path: str) -> None:
    """A `traceparent` whose flag says no is obeyed; probes and scrapes are never traced."""
    flag = {"traceparent": f"00-{TRACE}-{CALLER}-00"} if path.startswith("/v1/") else {}
    answer = await traced.client.get(path, headers=flag)
    assert answer.status_code == 200 and "traceresponse" not in answer.headers
    assert await traced.spans() == []


async def test_a_batch_is_linked_to_all_that_it_serves(traced: Traced, triton: FakeTriton) -> None:
    """One call for two requests is in the first one's trace, linked to both, and the other's stage is linked to it."""
    triton.latency_s["embedder"] = 0.2
    busy = asyncio.create_task(traced.client.post("/v1/embed", json={"query": "first"}))
    await asyncio.sleep(0.1)
    answers = await asyncio.gather(*(traced.client.post("/v1/embed", json={"query": text}) for text in ("second", "third")))
    await busy
    found = await traced.spans()
    alone, both = named(found, "batch")
    assert (alone.attributes["searchbar.batch.size"], both.attributes["searchbar.batch.size"]) == (1, 2)
    owner, rider = (a.headers["traceresponse"].split("-")[1] for a in answers)
    stages = {span.trace: span for span in named(found, "embedder")}
    assert both.trace == owner and both.parent == stages[owner].id
    assert set(both.links) == {stages[owner].id, stages[rider].id}
    assert stages[rider].links == (both.id,)


async def test_the_cache_shows(traced: Traced) -> None:
    """The stage says whether its answer came from the cache; then there is no batch below it."""
    for _ in range(2):
        await traced.client.post("/v1/spellcheck", json={"query": "smels like teen sprit"})
    found = await traced.spans()
    assert [span.attributes["searchbar.cache"] for span in named(found, "speller")] == ["miss", "hit"]
    assert len(named(found, "batch")) == 1


async def test_what_failed_is_marked(traced: Traced, triton: FakeTriton) -> None:
    """A stage that failed is an error in a search that goes on; a request is one when it was answered with a 5xx."""
    triton.failures["embedder"] = ModelFailed("no")
    assert (await traced.client.post("/v1/search", json={"query": "halo"})).status_code == 200
    assert (await traced.client.post("/v1/embed", json={"query": "halo"})).status_code == 503
    found = await traced.spans()
    failed = [span.name for span in found if span.failed]
    assert failed.count("POST /v1/embed") == 1 and failed.count("embedder") == 2 and "POST /v1/search" not in failed


async def test_without_an_endpoint_nothing_is_made(settings: Settings, client: httpx.AsyncClient) -> None:
    """No tracer, no arguments for Triton, no header, and `span` gives one and the same empty context for every stage."""
    async with tracing(settings) as tracer:
        assert tracer is None
    assert triton_arguments(settings) == []
    assert "traceresponse" not in (await client.post("/v1/search", json=QUERY)).headers
    assert spans.span("speller") is spans.span("index") is spans.shared("batch", [None, None])


@pytest.mark.timeout(60)
async def test_a_collector_that_is_away_costs_spans_and_no_request(settings: Settings, gateway: Gateway) -> None:
    """Requests are answered, and closing gives up in seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # taken, but nobody listens
        away = settings.model_copy(update={"otlp_endpoint": f"http://127.0.0.1:{probe.getsockname()[1]}"})
        async with tracing(away) as tracer:
            transport = httpx.ASGITransport(create_app(gateway, tracer=tracer))
            async with httpx.AsyncClient(transport=transport, base_url="http://searchbar") as client:
                assert (await client.post("/v1/search", json=QUERY)).status_code == 200
