"""What is answered while a part is away, late or overloaded."""

from __future__ import annotations

import httpx
import pytest

from app.errors import IndexUnavailable, ModelFailed, Overloaded, SearchbarError
from app.fakes import FakeIndex, FakeTriton
from app.settings import Settings

MISTYPED = {"query": "bilie jean micheal jackson"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/spellcheck", {"query": "halp"}, id="spellcheck"),
        pytest.param("/v1/embed", {"queries": ["halo", "x"]}, id="embed"),
        pytest.param("/v1/embeddings", {"input": "halo"}, id="embeddings"),
    ],
)
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        pytest.param(None, 503, id="Triton is down"),
        pytest.param(ModelFailed("stub died"), 503, id="the model fails"),
        pytest.param(Overloaded("queue full"), 429, id="the queue is full"),
    ],
)
async def test_models_alone_say_when_to_retry(
    client: httpx.AsyncClient, triton: FakeTriton, path: str, body: object, failure: SearchbarError | None, status: int
) -> None:
    """Without their model these routes have nothing to answer: they say so and when to come back."""
    triton.stop()
    if failure:
        triton.failures = {"speller": failure, "embedder": failure}
    answer = await client.post(path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert int(answer.headers["retry-after"]) >= 1


async def test_search_without_triton_finds_by_words(client: httpx.AsyncClient, triton: FakeTriton, index: FakeIndex) -> None:
    """With Triton down a search answers from the index alone, uncorrected, and names both models."""
    triton.stop()
    answer = await client.post("/v1/search", json={"query": "Billie JEAN live"})
    assert answer.status_code == 200
    found = answer.json()
    assert sorted(found["degraded"]) == ["embedder", "speller"]
    assert (found["action"], found["corrected"]) == ("none", "billie jean live")
    assert found["hits"][0]["id"] == "billie"
    assert [query.vector for query in index.queries] == [None]
    metrics = (await client.get("/metrics")).text
    assert 'searchbar_degraded_total{part="speller"} 1.0' in metrics


@pytest.mark.parametrize(
    ("model", "action"), [pytest.param("speller", "suggest", id="speller"), pytest.param("embedder", "replace", id="embedder")]
)
async def test_search_names_the_model_that_failed(
    client: httpx.AsyncClient, triton: FakeTriton, model: str, action: str
) -> None:
    """One model away degrades its own part alone; without the speller the best hit's name is still offered."""
    triton.failures[model] = ModelFailed("out of memory")
    found = (await client.post("/v1/search", json=MISTYPED)).json()
    assert (found["degraded"], found["action"]) == ([model], action)
    assert found["corrected"] == "billie jean michael jackson"
    assert found["hits"]


async def test_search_with_nothing_left(client: httpx.AsyncClient, triton: FakeTriton, index: FakeIndex) -> None:
    """With Triton and the index away there is nothing to show: 503 with `Retry-After`, until they are back."""
    triton.stop()
    index.failure = IndexUnavailable("the index is closed")
    answer = await client.post("/v1/search", json=MISTYPED)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert int(answer.headers["retry-after"]) >= 1
    index.failure = None
    triton.failures.clear()
    back = (await client.post("/v1/search", json=MISTYPED)).json()
    assert (back["degraded"], back["action"]) == ([], "replace")


class TestLate:
    """With a short deadline."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"deadline_s": 0.5})

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            pytest.param("/v1/spellcheck", {"query": "halp"}, id="spellcheck"),
            pytest.param("/v1/embed", {"query": "halp"}, id="embed"),
            pytest.param("/v1/embeddings", {"input": "halp"}, id="embeddings"),
        ],
    )
    async def test_models_alone_are_too_late(
        self, client: httpx.AsyncClient, triton: FakeTriton, path: str, body: object
    ) -> None:
        """A model slower than the deadline is a 504 at the deadline, not when the model is done."""
        triton.latency_s = {"speller": 15.0, "embedder": 15.0}
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (504, "application/problem+json")

    @pytest.mark.parametrize("model", ["speller", "embedder"])
    async def test_search_leaves_out_a_late_model(self, client: httpx.AsyncClient, triton: FakeTriton, model: str) -> None:
        """A search shows what is there at its deadline, names what is not, and the index is timed alone."""
        triton.latency_s[model] = 15.0
        answer = await client.post("/v1/search", json={"query": "billie jean micheal"})
        assert answer.status_code == 200
        found = answer.json()
        assert found["degraded"] == [model]
        assert found["hits"][0]["id"] == "billie"
        assert found["timings_ms"][model] >= 300
        assert found["timings_ms"]["index"] < 150

    async def test_search_without_its_index_in_time(self, client: httpx.AsyncClient, index: FakeIndex) -> None:
        """An index slower than the deadline leaves nothing to show: 504."""
        index.latency_s = 15.0
        answer = await client.post("/v1/search", json=MISTYPED)
        assert (answer.status_code, answer.headers["content-type"]) == (504, "application/problem+json")
