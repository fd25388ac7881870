"""What each route answers when all is well: shapes, values and the OpenAPI document that promises them."""

from __future__ import annotations

import base64
import math
from typing import Any

import httpx
import numpy as np
import pytest

from app import schemas
from app.fakes import FakeIndex, FakeTriton, unit_vector
from app.settings import Settings


async def post(client: httpx.AsyncClient, path: str, body: object) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("query", "corrected", "action"),
    [
        pytest.param("bilie jean micheal jackson", "billie jean michael jackson", "replace", id="title and artist"),
        pytest.param("Smels Like Teen Sprit", "smells like teen spirit", "replace", id="case does not matter"),
        pytest.param("beyonce", "beyonce", "none", id="a name of the catalogue"),
        pytest.param("BEYONCÉ", "beyoncé", "none", id="case and diacritics alone"),
        pytest.param("unknown name", "unknown name", "none", id="nothing better known"),
        pytest.param(" " * 256, "", "none", id="spaces alone"),
    ],
)
async def test_spellcheck_corrects(client: httpx.AsyncClient, query: str, corrected: str, action: str) -> None:
    """A correction has every member of the contract, and `action` is none exactly when `changed` is false."""
    answer = await post(client, "/v1/spellcheck", {"query": query})
    assert set(answer) == {"results", "timings_ms"}
    (result,) = answer["results"]
    schemas.CorrectionOut.model_validate(result, strict=True)
    assert set(result) == {"query", "corrected", "changed", "confidence", "action", "alternatives"}
    assert (result["query"], result["corrected"], result["action"]) == (query, corrected, action)
    assert result["changed"] is (action != "none")


async def test_spellcheck_answers_several_in_order(client: httpx.AsyncClient) -> None:
    """64 queries are answered in their order, each as if it had come alone."""
    queries = ["bilie jean micheal jackson", "beyonce", "smels like teen sprit", "zzz"] * 16
    results = (await post(client, "/v1/spellcheck", {"queries": queries}))["results"]
    assert [result["query"] for result in results] == queries
    assert [result["action"] for result in results] == ["replace", "none", "replace", "none"] * 16


class TestUnsure:
    """With a threshold for replacing that nothing reaches."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"replace_threshold": 1.0})

    async def test_a_correction_is_suggested(self, client: httpx.AsyncClient) -> None:
        """Below the threshold the correction is offered, still `changed`, with its runners-up."""
        (result,) = (await post(client, "/v1/spellcheck", {"query": "smels like teen sprit"}))["results"]
        assert (result["action"], result["changed"]) == ("suggest", True)
        assert all(a["text"] != result["corrected"] and 0 <= a["confidence"] <= 1 for a in result["alternatives"])


async def test_embed_answers_unit_vectors(client: httpx.AsyncClient) -> None:
    """One vector a query in their order, of the stated length and of norm 1; what folds alike has the same vector."""
    answer = await post(client, "/v1/embed", {"queries": ["sad songs", "halo", "HALO"]})
    assert set(answer) == {"model", "dimensions", "embeddings", "timings_ms"}
    assert [len(vector) for vector in answer["embeddings"]] == [answer["dimensions"]] * 3 == [256] * 3
    assert all(math.isclose(np.linalg.norm(vector), 1.0, abs_tol=1e-5) for vector in answer["embeddings"])
    np.testing.assert_array_equal(np.float32(answer["embeddings"][1]), unit_vector(b"halo"))
    assert answer["embeddings"][1] == answer["embeddings"][2] != answer["embeddings"][0]


async def test_search_corrects_and_finds(client: httpx.AsyncClient, triton: FakeTriton, index: FakeIndex) -> None:
    """A mistyped query finds what was meant first, says what it searched, and asks the index with both readings' vectors."""
    answer = await post(client, "/v1/search", {"query": "bilie jean micheal jackson", "limit": 3})
    assert set(answer) == {"query", "corrected", "action", "hits", "degraded", "timings_ms"}
    assert (answer["query"], answer["action"]) == ("bilie jean micheal jackson", "replace")
    assert (answer["corrected"], answer["degraded"]) == ("billie jean michael jackson", [])
    best = answer["hits"][0]
    assert set(best) == {"id", "kind", "title", "artist", "album", "year", "score", "matched_by"}
    assert (best["id"], best["kind"], best["year"], best["album"]) == ("billie", "track", 1982, "Thriller")
    assert {"title", "artist"} <= set(best["matched_by"]) <= {"title", "artist", "text", "meaning", "correction"}
    assert [hit["score"] for hit in answer["hits"]] == sorted((hit["score"] for hit in answer["hits"]), reverse=True)
    assert {query.text for query in index.queries} == {answer["query"], answer["corrected"]}
    assert all(query.vector is not None for query in index.queries)
    assert {call.model for call in triton.calls} == {"speller", "embedder"}


async def test_search_by_url_is_the_same_search(client: httpx.AsyncClient) -> None:
    """GET and POST give the same hits for the same query and limit."""
    posted = await post(client, "/v1/search", {"query": "smels like teen sprit", "limit": 2})
    got = (await client.get("/v1/search", params={"q": "smels like teen sprit", "limit": 2})).json()
    assert {**got, "timings_ms": None} == {**posted, "timings_ms": None}


async def test_suggest_completes_without_a_model(client: httpx.AsyncClient, triton: FakeTriton, index: FakeIndex) -> None:
    """What is typed so far is completed, a typo forgiven, timed and counted, and neither Triton nor the index is asked."""
    answer = await client.get("/v1/suggest", params={"q": "Mich"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    schemas.SuggestOut.model_validate(found, strict=True)
    assert found["query"] == "Mich"
    assert found["completions"] == [{"kind": "artist", "text": "Michael Jackson", "artist": ""}]
    assert set(found["timings_ms"]) == {"completions", "total"}
    assert answer.headers["server-timing"] == ", ".join(f"{stage};dur={took}" for stage, took in found["timings_ms"].items())
    mistyped = (await client.get("/v1/suggest", params={"q": "bilie"})).json()
    assert mistyped["completions"] == [{"kind": "track", "text": "Billie Jean", "artist": "Michael Jackson"}]
    assert (triton.calls, index.queries) == ([], [])
    metrics = (await client.get("/metrics")).text
    assert 'searchbar_request_seconds_count{route="/v1/suggest",status="200"} 2.0' in metrics
    assert 'searchbar_stage_seconds_count{stage="completions"} 2.0' in metrics


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 2), (20, 3)])
async def test_suggest_limits(client: httpx.AsyncClient, limit: int, count: int) -> None:
    """As many completions as asked for, no more than there are."""
    found = (await client.get("/v1/suggest", params={"q": "t", "limit": limit})).json()
    assert len(found["completions"]) == count


async def test_suggest_completes_nothing_for_blanks(client: httpx.AsyncClient) -> None:
    """Spaces are a text like any other, as for a search, and begin no name."""
    assert (await client.get("/v1/suggest", params={"q": "   "})).json()["completions"] == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param({}, {"billie", "jackson", "thriller"}, id="none"),
        pytest.param({"kind": ["artist", "album"]}, {"jackson", "thriller"}, id="kinds are alternatives"),
        pytest.param({"genres": ["FUNK"]}, {"billie"}, id="genres in any case"),
        pytest.param({"year": {"gte": 1982}}, {"billie", "thriller"}, id="year from"),
        pytest.param({"year": {"lte": 1981}}, set(), id="year to"),
        pytest.param({"kind": ["track"], "year": {"gte": 1982, "lte": 1982}}, {"billie"}, id="all together"),
    ],
)
async def test_search_filters(client: httpx.AsyncClient, filters: dict[str, object], expected: set[str]) -> None:
    """Every hit meets every filter."""
    answer = await post(client, "/v1/search", {"query": "michael jackson", "filters": filters})
    assert {hit["id"] for hit in answer["hits"]} == expected


@pytest.mark.parametrize(
    ("path", "body", "stages"),
    [
        pytest.param("/v1/spellcheck", {"query": "halp"}, {"speller", "total"}, id="spellcheck"),
        pytest.param("/v1/embed", {"query": "halp"}, {"embedder", "total"}, id="embed"),
        pytest.param("/v1/search", {"query": "halp"}, {"speller", "embedder", "index", "total"}, id="search"),
    ],
)
async def test_stages_are_timed(client: httpx.AsyncClient, path: str, body: dict[str, str], stages: set[str]) -> None:
    """Body and `Server-Timing` give the same time for every stage, none longer than the whole."""
    answer = await client.post(path, json=body)
    timings = answer.json()["timings_ms"]
    assert set(timings) == stages
    assert max(timings.values()) == timings["total"]
    assert answer.headers["server-timing"] == ", ".join(f"{stage};dur={took}" for stage, took in timings.items())


async def test_openai_float_and_base64_are_the_same_numbers(client: httpx.AsyncClient) -> None:
    """Base64 holds the little-endian float32 of the same vectors, in the order of the input."""
    body = {"input": ["sad songs", "news podcasts"], "model": "anything", "user": "ignored"}
    floats = await post(client, "/v1/embeddings", body)
    packed = await post(client, "/v1/embeddings", {**body, "encoding_format": "base64"})
    schemas.OpenAIEmbeddingsOut.model_validate(floats)
    assert floats["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert [entry["index"] for entry in packed["data"]] == [0, 1]
    for as_float, as_base64 in zip(floats["data"], packed["data"], strict=True):
        unpacked = np.frombuffer(base64.b64decode(as_base64["embedding"]), "<f4")
        np.testing.assert_array_equal(np.float32(as_float["embedding"]), unpacked)
    alone = await post(client, "/v1/embeddings", {"input": "sad songs"})
    assert alone["data"] == floats["data"][:1]


async def test_openapi_lists_every_route_with_examples(client: httpx.AsyncClient) -> None:
    """The document has each route of the contract, its errors and, for each body, an example that the body accepts."""
    document = (await client.get("/openapi.json")).json()
    routes = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert routes == {
        ("/v1/spellcheck", "post"),
        ("/v1/embed", "post"),
        ("/v1/search", "post"),
        ("/v1/search", "get"),
        ("/v1/suggest", "get"),
        ("/v1/embeddings", "post"),
        ("/v1/catalogue/items", "put"),
        ("/v1/catalogue/items/{item_id}", "get"),
        ("/v1/catalogue/items/{item_id}", "delete"),
        ("/livez", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    }
    for path, methods in document["paths"].items():
        if "post" in methods:
            assert {"200", "413", "422", "429", "503", "504"} <= set(methods["post"]["responses"])
            schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
            examples = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["examples"]
            for example in examples:
                await post(client, path, example)
    (q, limit) = document["paths"]["/v1/search"]["get"]["parameters"]
    assert (q["schema"]["examples"], limit["schema"]["maximum"]) == (["bohemian rapsody"], 100)
    (q, limit) = document["paths"]["/v1/suggest"]["get"]["parameters"]
    assert (q["schema"]["maxLength"], limit["schema"]["maximum"], limit["schema"]["default"]) == (256, 20, 8)
