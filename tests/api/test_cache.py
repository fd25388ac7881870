"""The answer cache as clients and operators see it."""

from __future__ import annotations

import httpx
import pytest

from app.fakes import FakeIndex, FakeTriton
from app.gateway import CANARY, Gateway
from app.settings import Settings

BODY = {"query": "bilie jean micheal jackson"}


async def test_a_repeated_search_asks_nobody(client: httpx.AsyncClient, triton: FakeTriton, index: FakeIndex) -> None:
    """The second search gives the same answer, its text as sent, even while the models are away; its timings are its own."""
    first = (await client.post("/v1/search", json=BODY)).json()
    asked, looked_up = len(triton.calls), len(index.queries)
    triton.stop()
    second = (await client.post("/v1/search", json={"query": "Bilie Jean MICHEAL Jackson"})).json()
    assert (second["hits"], second["corrected"], second["degraded"]) == (first["hits"], first["corrected"], [])
    assert second["query"] == "Bilie Jean MICHEAL Jackson"
    assert set(second["timings_ms"]) == {"cache", "total"}
    assert (len(triton.calls), len(index.queries)) == (asked, looked_up)


@pytest.mark.parametrize(
    "change", [{"limit": 1}, {"filters": {"kind": ["album"]}}, {"query": "bilie jean"}], ids=["limit", "filter", "query"]
)
async def test_another_question_is_asked(client: httpx.AsyncClient, index: FakeIndex, change: dict[str, object]) -> None:
    """An answer is for its query, limit and filters alone; the models' part of it is taken from their caches."""
    await client.post("/v1/search", json=BODY)
    looked_up = len(index.queries)
    await client.post("/v1/search", json={**BODY, **change})
    assert len(index.queries) > looked_up


async def test_an_answer_that_left_a_part_out_is_not_kept(client: httpx.AsyncClient, triton: FakeTriton) -> None:
    """When the models are back the same search is whole."""
    failures = dict(triton.failures)
    triton.stop()
    assert (await client.post("/v1/search", json=BODY)).json()["degraded"]
    triton.failures = failures
    assert not (await client.post("/v1/search", json=BODY)).json()["degraded"]


async def test_what_is_forgotten_is_asked_again(client: httpx.AsyncClient, gateway: Gateway, triton: FakeTriton) -> None:
    """When the models may be others (Triton was started again), both are asked anew, for searches too."""
    found = (await client.post("/v1/search", json=BODY)).json()
    before = (await client.post("/v1/spellcheck", json=BODY)).json()["results"][0]
    await client.post("/v1/embed", json=BODY)
    triton.corrections.clear()
    triton.calls.clear()
    gateway.forget()
    after = (await client.post("/v1/spellcheck", json=BODY)).json()["results"][0]
    await client.post("/v1/embed", json=BODY)
    assert (before["action"], after["action"]) == ("replace", "none")
    assert [call.model for call in triton.calls] == ["speller", "embedder"]
    gateway.forget()
    assert (found["action"], (await client.post("/v1/search", json=BODY)).json()["action"]) == ("replace", "none")


async def test_readyz_is_not_answered_by_the_cache(client: httpx.AsyncClient, triton: FakeTriton) -> None:
    """A model that stopped answering is not ready although its canary's answer is in the cache."""
    for path in ("/v1/spellcheck", "/v1/embed"):
        assert (await client.post(path, json={"query": CANARY})).status_code == 200
    triton.stop()
    triton.unready.clear()
    assert (await client.get("/readyz")).json()["checks"] == {"speller": False, "embedder": False, "index": True}


async def test_metrics_count_the_cache(client: httpx.AsyncClient, triton: FakeTriton) -> None:
    """Hits, misses and shared calls of both models add up to the queries, and the entries held are shown."""
    await client.post("/v1/embed", json={"queries": ["halp", "HALP", "hilfe"]})
    await client.post("/v1/embed", json={"query": "halp"})
    await client.post("/v1/spellcheck", json={"query": "halp"})
    text = (await client.get("/metrics")).text
    for part, counts in {"embedder": {"hit": 1, "miss": 2, "shared": 1}, "speller": {"hit": 0, "miss": 1, "shared": 0}}.items():
        for outcome, count in counts.items():
            assert f'searchbar_cache_total{{outcome="{outcome}",part="{part}"}} {count}.0' in text
        assert f'searchbar_cache_entries{{part="{part}"}} {counts["miss"]}.0' in text
        assert f'searchbar_cache_evictions_total{{part="{part}"}} 0.0' in text
    assert len(triton.calls) == 3


class TestSettings:
    """The cache is what the settings say."""

    @pytest.fixture
    def settings(self, settings: Settings, change: dict[str, float]) -> Settings:
        return settings.model_copy(update=change)

    @pytest.mark.parametrize(
        ("change", "calls"),
        [
            pytest.param({}, 2, id="default"),
            pytest.param({"cache_entries": 0}, 5, id="off"),
            pytest.param({"cache_entries": 1}, 3, id="one entry"),
            pytest.param({"cache_ttl_s": 1e-9}, 4, id="over at once"),
        ],
    )
    async def test_they_bound_the_cache(self, client: httpx.AsyncClient, triton: FakeTriton, calls: int) -> None:
        """Of two at once, a repeat, another and the first again, so many reach the model."""
        for queries in (["a", "a"], ["a"], ["b"], ["a"]):
            await client.post("/v1/embed", json={"queries": queries})
        assert sum(len(call.inputs["QUERY"]) for call in triton.calls) == calls
