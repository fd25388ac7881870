"""The busiest routes, answered without the framework's machinery: nothing a client sees tells the two ways apart."""

from __future__ import annotations

import json

import httpx
import pytest

from app.fakes import FakeTriton

LEAN, WHOLE = "application/json", "application/json; charset=utf-8"  # the second is left to the framework
ROUTES = ("/v1/spellcheck", "/v1/embed", "/v1/search")


async def both(client: httpx.AsyncClient, path: str, body: bytes) -> list[tuple[int, dict[str, str], dict[str, object]]]:
    """Status, headers and answer of either way, what time changes left out."""
    answers = []
    for content_type in (LEAN, WHOLE):
        answer = await client.post(path, content=body, headers={"content-type": content_type})
        headers = {k: v for k, v in answer.headers.items() if k not in ("server-timing", "content-length")}
        answers.append((answer.status_code, headers, {k: v for k, v in answer.json().items() if k != "timings_ms"}))
    return answers


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"query": "bilie jean micheal jackson"}', id="query"),
        pytest.param(b'{"queries": ["halo", "bilie jean micheal jackson"]}', id="queries"),
        pytest.param(b'{"query": "halo", "limit": 2, "filters": {"kind": ["track"], "year": {"gte": 2000}}}', id="filters"),
        pytest.param(b'{"query": "\\ud83d"}', id="lone surrogate"),
        pytest.param(b'{"query": ""}', id="empty query"),
        pytest.param(b'{"query": "a", "limit": "many"}', id="wrong type"),
        pytest.param(b'{"query": "a"', id="broken json"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"", id="no body"),
        pytest.param(b'{"query": "a", "extra": 1}', id="unknown field"),
        pytest.param(json.dumps({"query": "a" * 70_000}).encode(), id="too large"),
    ],
)
async def test_both_ways_answer_alike(client: httpx.AsyncClient, path: str, body: bytes) -> None:
    """Whatever is sent, status, headers and answer are the same."""
    lean, whole = await both(client, path, body)
    assert lean == whole


@pytest.mark.parametrize("path", ROUTES[:2])
async def test_both_ways_fail_alike(client: httpx.AsyncClient, triton: FakeTriton, path: str) -> None:
    """An outage is the same problem document."""
    triton.stop()
    lean, whole = await both(client, path, b'{"query": "smels like teen sprit"}')
    assert lean == whole and lean[0] == 503


async def test_the_route_is_measured_under_its_path(client: httpx.AsyncClient) -> None:
    """Metrics name the route whichever way it was answered."""
    await both(client, "/v1/embed", b'{"query": "halo"}')
    assert 'searchbar_request_seconds_count{route="/v1/embed",status="200"} 2.0' in (await client.get("/metrics")).text
