"""What a client can get wrong: every fault has its status, names its field and is a problem document."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

POSTS = ("/v1/spellcheck", "/v1/embed", "/v1/search", "/v1/embeddings")


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of `answer`, checked for what every one of them has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["title"] and found["detail"] and found["type"]
    return found


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        pytest.param("/v1/search", {"query": "halo", "limit": 0}, "limit", id="limit 0"),
        pytest.param("/v1/search", {"query": "halo", "limit": 101}, "limit", id="limit 101"),
        pytest.param("/v1/search", {"query": "halo", "limit": "many"}, "limit", id="limit is a word"),
        pytest.param("/v1/search", {"query": "halo", "limit": "5"}, "limit", id="limit is a text"),
        pytest.param("/v1/search", {"query": "halo", "limit": True}, "limit", id="limit is true"),
        pytest.param("/v1/search", {"query": "halo", "limit": 5.5}, "limit", id="limit is no whole number"),
        pytest.param("/v1/search", {"query": ""}, "query", id="empty query"),
        pytest.param("/v1/search", {"query": "x" * 257}, "query", id="257 characters"),
        pytest.param("/v1/search", {"query": None}, "query", id="null query"),
        pytest.param("/v1/search", {}, "query", id="no query"),
        pytest.param("/v1/search", {"query": "halo", "colour": "red"}, "colour", id="unknown member"),
        pytest.param("/v1/search", {"query": "halo", "filters": {"kind": ["song"]}}, "filters.kind.0", id="unknown kind"),
        pytest.param(
            "/v1/search", {"query": "halo", "filters": {"year": {"gte": "x"}}}, "filters.year.gte", id="year is a word"
        ),
        pytest.param("/v1/search", {"query": "halo", "filters": {"year": {"lte": 10**4}}}, "filters.year.lte", id="year 10000"),
        pytest.param("/v1/spellcheck", {}, "body", id="neither query nor queries"),
        pytest.param("/v1/spellcheck", {"query": "a", "queries": ["b"]}, "body", id="both query and queries"),
        pytest.param("/v1/spellcheck", {"queries": []}, "queries", id="no queries"),
        pytest.param("/v1/spellcheck", {"queries": ["x"] * 65}, "queries", id="65 queries"),
        pytest.param("/v1/spellcheck", {"queries": ["x", "y" * 257]}, "queries.1", id="one of 257 characters"),
        pytest.param("/v1/embed", {"queries": ["x"] * 65}, "queries", id="embed 65"),
        pytest.param("/v1/embed", {"query": 7}, "query", id="query is a number"),
        pytest.param("/v1/embeddings", {"input": "x", "encoding_format": "hex"}, "encoding_format", id="unknown encoding"),
        pytest.param("/v1/embeddings", {"model": "x"}, "input", id="no input"),
    ],
)
async def test_wrong_fields_are_named(client: httpx.AsyncClient, path: str, body: object, field: str) -> None:
    """422 names the field and explains; the detail says the same in one line."""
    found = problem(await client.post(path, json=body), 422)
    assert [error["field"] for error in found["errors"]] == [field]
    assert f"{field}: {found['errors'][0]['message']}" == found["detail"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        pytest.param({}, "q", id="no query"),
        pytest.param({"q": ""}, "q", id="empty query"),
        pytest.param({"q": "x" * 257}, "q", id="257 characters"),
        pytest.param({"q": "halo", "limit": 0}, "limit", id="limit 0"),
        pytest.param({"q": "halo", "limit": 101}, "limit", id="limit 101"),
    ],
)
async def test_wrong_parameters_are_named(client: httpx.AsyncClient, params: dict[str, Any], field: str) -> None:
    """The search by URL keeps the same limits."""
    assert [error["field"] for error in problem(await client.get("/v1/search", params=params), 422)["errors"]] == [field]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        pytest.param({}, "q", id="no text"),
        pytest.param({"q": ""}, "q", id="empty text"),
        pytest.param({"q": "x" * 257}, "q", id="257 characters"),
        pytest.param({"q": "halo", "limit": 0}, "limit", id="limit 0"),
        pytest.param({"q": "halo", "limit": 21}, "limit", id="limit 21"),
        pytest.param({"q": "halo", "limit": "many"}, "limit", id="limit is a word"),
    ],
)
async def test_wrong_parameters_of_suggest_are_named(client: httpx.AsyncClient, params: dict[str, Any], field: str) -> None:
    """Completions refuse what is not 1–256 characters and 1–20 completions."""
    assert [error["field"] for error in problem(await client.get("/v1/suggest", params=params), 422)["errors"]] == [field]


@pytest.mark.parametrize("limit", [1, 100])
async def test_limits_are_inclusive(client: httpx.AsyncClient, limit: int) -> None:
    """The smallest and the largest limit, 64 queries and 256 characters are served."""
    found = await client.post("/v1/search", json={"query": "michael jackson".ljust(256, "x"), "limit": limit})
    assert found.status_code == 200
    assert len(found.json()["hits"]) <= limit
    assert (await client.get("/v1/search", params={"q": "jackson", "limit": limit})).status_code == 200
    assert (await client.post("/v1/embed", json={"queries": ["x" * 256] * 64})).status_code == 200


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"query": ', id="cut off"),
        pytest.param(b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(b"[" * 60_000, id="nested too deep"),
        pytest.param(b'"halo"', id="a string"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"query": "x", "limit": ' + b"9" * 5000 + b"}", id="a number of 5000 digits"),
        pytest.param(b'{"query": NaN, "input": NaN}', id="NaN"),
        pytest.param(b'{"query": 1, "input": 1, "\\ud800": 1}', id="a lone surrogate names a member"),
    ],
)
async def test_not_json_or_not_an_object(client: httpx.AsyncClient, path: str, body: bytes) -> None:
    """A body that is no JSON object is the client's fault: 400 or 422."""
    answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


async def test_a_broken_body_is_called_body(client: httpx.AsyncClient) -> None:
    """The field of a JSON error is the body, not an offset into it."""
    found = problem(await client.post("/v1/search", content=b'{"query": ', headers={"Content-Type": "application/json"}), 422)
    assert found["errors"][0]["field"] == "body"


@pytest.mark.parametrize("path", POSTS)
async def test_a_declared_long_body_is_refused(client: httpx.AsyncClient, path: str) -> None:
    """A body over 64 KiB is refused by its declared length; one of exactly 64 KiB is read."""
    padding = " " * (64 * 1024 - len(json.dumps({"query": "halo", "input": "halo"})))
    fits = json.dumps({"query": "halo", "input": "halo"}) + padding
    assert (await client.post(path, content=fits.encode())).status_code in (200, 422)
    problem(await client.post(path, content=fits.encode() + b" "), 413)


@pytest.mark.parametrize("path", POSTS)
async def test_a_chunked_long_body_is_refused(client: httpx.AsyncClient, path: str) -> None:
    """A body without a declared length is refused as soon as it is over 64 KiB."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 4096

    answer = await client.post(path, content=chunks(), headers={"Content-Type": "application/json"})
    assert "content-length" not in answer.request.headers
    problem(answer, 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/v1/nothing", 404, id="unknown route"),
        pytest.param("GET", "/page/nothing.js", 404, id="unknown file"),
        pytest.param("GET", "/page/%00", 404, id="NUL in a file name"),
        pytest.param("GET", "/page/%2e%2e/api.py", 404, id="out of the page's folder"),
        pytest.param("GET", "/%ed%a0%80", 404, id="a surrogate in the path"),
        pytest.param("GET", "/v1/spellcheck", 405, id="GET spellcheck"),
        pytest.param("PUT", "/v1/search", 405, id="PUT search"),
        pytest.param("POST", "/v1/suggest", 405, id="POST suggest"),
        pytest.param("DELETE", "/metrics", 405, id="DELETE metrics"),
        pytest.param("POST", "/livez", 405, id="POST livez"),
    ],
)
async def test_unknown_routes_and_wrong_methods(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """404 and 405 are problem documents too."""
    problem(await client.request(method, path), status)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        pytest.param("/v1/search", {"GET", "POST"}, id="two routes of one path"),
        pytest.param("/v1/catalogue/items/halo", {"GET", "DELETE"}, id="one item"),
        pytest.param("/v1/embed", {"POST"}, id="one route"),
        pytest.param("/page/app.js", {"GET", "HEAD"}, id="a file of the page"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(client: httpx.AsyncClient, path: str, methods: set[str]) -> None:
    """`Allow` has every method of the path."""
    assert set((await client.patch(path)).headers["allow"].split(", ")) == methods


HOSTILE = [
    pytest.param('"\\u0000\\u0001\\u001f\\u007f"', id="control characters"),
    pytest.param('"a\\u0000b"', id="NUL inside"),
    pytest.param('"\\ud83d\\ude00\\ud83d\\udc69\\u200d\\ud83d\\ude80"', id="emoji"),
    pytest.param('"\\u0645\\u0631\\u062d\\u0628\\u0627 \\u202eabc"', id="right to left"),
    pytest.param('"' + " " * 256 + '"', id="256 spaces"),
    pytest.param('"' + "\\u0301" * 256 + '"', id="256 combining marks"),
    pytest.param('"' + "\\ufdfa" * 256 + '"', id="ligatures that NFKC makes 18 characters each"),
    pytest.param('"</s> <pad> <s>"', id="the tokeniser's own tokens"),
    pytest.param('"\' OR 1=1 -- ${jndi:x} %s {}"', id="injections"),
    pytest.param('"\\u2028\\ufeff\\u200b\\u00ad"', id="separators and zero widths"),
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("path", POSTS)
async def test_hostile_text_is_served(client: httpx.AsyncClient, path: str, text: str) -> None:
    """Any text of 1–256 characters is a query like any other, and the answer is readable JSON."""
    member = "input" if path == "/v1/embeddings" else "query"
    body = f'{{"{member}": {text}}}'
    answer = await client.post(path, content=body.encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    for result in found.get("results", []):
        assert (result["action"] == "none") is (not result["changed"])


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("text", [pytest.param('"\\ud800"', id="high"), pytest.param('"halo \\udfff x"', id="low")])
async def test_lone_surrogates_are_no_text(client: httpx.AsyncClient, path: str, text: str) -> None:
    """Half a surrogate pair is no Unicode text: 422 that names the field and can itself be encoded."""
    member = "input" if path == "/v1/embeddings" else "query"
    body = f'{{"{member}": {text}}}'
    answer = await client.post(path, content=body.encode(), headers={"Content-Type": "application/json"})
    assert problem(answer, 422)["errors"][0]["field"].startswith(member)


@pytest.mark.parametrize("raw", ["%00", "%ff%fe", "%ed%a0%80", "%F0%9F%98%80", "%20" * 256, "%E2%80%AEabc"])
async def test_hostile_urls_are_served(client: httpx.AsyncClient, raw: str) -> None:
    """The same holds for a query in the URL, percent-encoded bytes that are no UTF-8 included."""
    assert (await client.get(f"/v1/search?q={raw}")).status_code == 200
    suggested = await client.get(f"/v1/suggest?q={raw}")
    assert (suggested.status_code, suggested.json()["completions"]) == (200, [])
