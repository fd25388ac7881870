"""More requests than are useful: refused at once, interactive first, health never."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import httpx
import pytest

from app.api import create_app
from app.fakes import FakeTriton
from app.gateway import Gateway
from app.settings import Settings

LATE_S = 1.0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"least_limit": 10, "most_limit": 10})


@pytest.fixture
def triton(triton: FakeTriton) -> FakeTriton:
    triton.latency_s = {"speller": LATE_S, "embedder": LATE_S}
    return triton


async def burst(client: httpx.AsyncClient, path: str, body: dict[str, str], number: int) -> list[tuple[httpx.Response, float]]:
    """`number` requests at once, each with the seconds until its answer."""
    started = time.perf_counter()

    async def one() -> tuple[httpx.Response, float]:
        return await client.post(path, json=body), time.perf_counter() - started

    return await asyncio.gather(*(one() for _ in range(number)))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/search", {"query": "halo"}, id="search"),
        pytest.param("/v1/spellcheck", {"query": "halp"}, id="spellcheck"),
        pytest.param("/v1/embed", {"query": "halo"}, id="embed"),
        pytest.param("/v1/embeddings", {"input": "halo"}, id="embeddings"),
    ],
)
async def test_a_burst_over_the_limit_is_refused_at_once(
    client: httpx.AsyncClient, triton: FakeTriton, path: str, body: dict[str, str]
) -> None:
    """Of 100 at once 10 are answered and 90 refused, with `Retry-After` and a problem document, before the others are done."""
    answers = await burst(client, path, body, 100)
    assert Counter(answer.status_code for answer, _ in answers) == {200: 10, 429: 90}
    for answer, took_s in answers:
        if answer.status_code == 429:
            assert took_s < LATE_S
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["x-content-type-options"] == "nosniff"
            found = answer.json()
            assert (found["status"], found["title"]) == (429, "Overloaded")
            assert ("error" in found) == (path == "/v1/embeddings")  # what OpenAI's clients print
    assert (await client.post(path, json=body)).status_code == 200  # the places are free again


async def test_interactive_requests_go_before_bulk(client: httpx.AsyncClient, triton: FakeTriton) -> None:
    """Bulk that fills the limit does not keep a search out; searches that fill it leave bulk its share."""
    bulk = asyncio.create_task(burst(client, "/v1/embed", {"query": "halo"}, 30))
    await asyncio.sleep(LATE_S / 5)
    searches = await burst(client, "/v1/search", {"query": "halo"}, 30)
    assert Counter(answer.status_code for answer, _ in searches) == {200: 8, 429: 22}
    assert Counter(answer.status_code for answer, _ in await bulk) == {200: 10, 429: 20}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/", "/page/app.js", "/openapi.json"])
async def test_health_metrics_and_the_page_are_never_refused(client: httpx.AsyncClient, triton: FakeTriton, path: str) -> None:
    """With the limit used up whoever watches the service, and whoever opens the page, is answered."""
    triton.latency_s = {"embedder": LATE_S / 2}
    busy = asyncio.create_task(burst(client, "/v1/embed", {"query": "halo"}, 30))
    await asyncio.sleep(LATE_S / 10)
    assert (await client.get(path)).status_code == 200
    assert Counter(answer.status_code for answer, _ in await busy)[429] == 20


async def test_refusals_are_counted_by_class(client: httpx.AsyncClient, triton: FakeTriton) -> None:
    """The metrics have the limit, what is in flight and what was refused."""
    busy = asyncio.create_task(burst(client, "/v1/embed", {"query": "halo"}, 30))
    await asyncio.sleep(LATE_S / 5)
    text = (await client.get("/metrics")).text
    assert "searchbar_admission_limit 10.0" in text
    assert 'searchbar_in_flight{class="bulk"} 10.0' in text
    assert 'searchbar_in_flight{class="interactive"} 0.0' in text
    assert 'searchbar_refused_total{class="bulk"} 20.0' in text
    await busy
    assert 'searchbar_in_flight{class="bulk"} 0.0' in (await client.get("/metrics")).text


async def test_requests_that_fail_give_their_places_back(client: httpx.AsyncClient, triton: FakeTriton) -> None:
    """Bad input and a model that is away do not use the limit up."""
    triton.latency_s = {}
    triton.stop()
    for body in ({"wrong": 1}, {"query": "halo"}):
        statuses = [(await client.post("/v1/embed", json=body)).status_code for _ in range(30)]
        assert 429 not in statuses and 200 not in statuses


async def test_a_body_that_comes_slowly_holds_no_place(client: httpx.AsyncClient, gateway: Gateway, triton: FakeTriton) -> None:
    """Thirty clients that do not finish their bodies leave the limit to those that do."""
    go = asyncio.Event()

    async def slowly():  # type: ignore[no-untyped-def]
        yield b'{"query": '
        await go.wait()
        yield b'"halo"}'

    triton.latency_s = {}
    slow = [asyncio.create_task(client.post("/v1/embed", content=slowly(), headers={"content-type": "application/json"}))
            for _ in range(9)]  # fmt: skip
    await asyncio.sleep(LATE_S / 10)
    assert gateway.admission is not None and sum(gateway.admission.in_flight.values()) == 0
    go.set()
    assert {(await answer).status_code for answer in slow} == {200}


async def test_without_a_limit_all_are_let_in(settings: Settings, gateway: Gateway, triton: FakeTriton) -> None:
    """`most_limit=0` turns admission off; the queue's own bound stays."""
    gateway.admission = None
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(gateway)), base_url="http://searchbar") as client:
        answers = await burst(client, "/v1/embed", {"query": "halo"}, 50)
    assert {answer.status_code for answer, _ in answers} == {200}
