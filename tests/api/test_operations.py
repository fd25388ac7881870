"""What operators and browsers look at: health, metrics, headers and the page."""

from __future__ import annotations

import httpx
import pytest

from app.errors import IndexUnavailable
from app.fakes import FakeIndex, FakeTriton


async def test_livez_needs_nobody(client: httpx.AsyncClient, triton: FakeTriton, index: FakeIndex) -> None:
    """The process is alive whatever its parts do."""
    triton.stop()
    index.failure = IndexUnavailable("closed")
    answer = await client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_readyz_when_all_is_well(client: httpx.AsyncClient, triton: FakeTriton) -> None:
    """Ready means that every model answered a canary just now and the index was read."""
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ok", "checks": {"speller": True, "embedder": True, "index": True}},
    )
    assert {call.model for call in triton.calls} == {"speller", "embedder"}


@pytest.mark.parametrize("part", ["speller", "embedder", "index", "canary"])
async def test_readyz_names_what_is_not(client: httpx.AsyncClient, triton: FakeTriton, index: FakeIndex, part: str) -> None:
    """503 with the part's name: a model that says no, one that says yes but fails its canary, or the index."""
    if part == "index":
        index.failure = IndexUnavailable("closed")
    elif part == "canary":
        triton.stop()
        triton.unready.clear()
        del triton.failures["embedder"]
    else:
        triton.unready.add(part)
    answer = await client.get("/readyz")
    name = "speller" if part == "canary" else part
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["checks"] == {check: check != name for check in ("speller", "embedder", "index")}
    assert name in answer.json()["detail"]
    assert answer.headers["retry-after"] == "1"


async def test_metrics_have_histograms_and_quantiles(client: httpx.AsyncClient) -> None:
    """Requests are counted under their route's template and status, stages by name, and quantiles are there to read."""
    await client.post("/v1/search", json={"query": "halp"})
    await client.post("/v1/search", json={"query": ""})
    await client.get("/v1/nothing/secret")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    text = answer.text
    assert 'searchbar_request_seconds_count{route="/v1/search",status="200"} 1.0' in text
    assert 'searchbar_request_seconds_count{route="/v1/search",status="422"} 1.0' in text
    assert 'searchbar_request_seconds_bucket{le="0.025",route="/v1/search",status="200"}' in text
    for stage in ("speller", "embedder", "index"):
        assert f'searchbar_stage_seconds_count{{stage="{stage}"}} 1.0' in text
    for quantile in ("0.5", "0.9", "0.99"):
        assert f'searchbar_latency_seconds{{quantile="{quantile}",route="/v1/search"}}' in text
    assert "secret" not in text


@pytest.mark.parametrize("path", ["/", "/livez", "/v1/nothing", "/page/app.js"])
async def test_every_answer_forbids_guessing(client: httpx.AsyncClient, path: str) -> None:
    """Each answer, errors included, carries the headers that keep browsers from guessing types and framing the page."""
    headers = (await client.get(path)).headers
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")


async def test_the_page_allows_itself_alone(client: httpx.AsyncClient) -> None:
    """The page is HTML and its policy lets it load from here alone."""
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert {"default-src 'none'", "script-src 'self'"} <= set(answer.headers["content-security-policy"].split("; "))
