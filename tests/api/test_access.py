"""API keys at the door: who passes, who is told what, and what stays open."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from app.access import OPEN, Access
from app.api import create_app
from app.catalogue import LiveCatalogue
from app.fakes import FakeIndex
from app.gateway import Gateway
from app.keys import KeyRing

KEY, SLOW, ADMIN = "sb_key", "sb_slow", "admin"
SEARCH = {"query": "halo"}


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """Two keys: one that may ask as often as it likes, one that may ask twice and then hardly ever again."""
    entries = {
        "web": {"sha256": hashlib.sha256(KEY.encode()).hexdigest()},
        "slow": {"sha256": hashlib.sha256(SLOW.encode()).hexdigest(), "rate_per_s": 0.01, "burst": 2},
    }
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": entries}))
    return KeyRing(path)


Opened = Callable[[Access], httpx.AsyncClient]


@pytest.fixture
async def opened(gateway: Gateway, index: FakeIndex) -> AsyncIterator[Opened]:
    """Clients of the application under a given access, its catalogue open to the admin key."""
    gateway.catalogue = LiveCatalogue(index, gateway.embedder, gateway.speller, gateway.completions)
    clients = []

    def client(access: Access) -> httpx.AsyncClient:
        app = create_app(gateway, admin_key=ADMIN, access=access)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://searchbar"))
        return clients[-1]

    yield client
    for each in clients:
        await each.aclose()


@pytest.fixture
def guarded(opened: Opened, ring: KeyRing) -> httpx.AsyncClient:
    return opened(Access(keys=ring))


def refused(answer: httpx.Response, status: int, said: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    found: dict[str, Any] = answer.json()
    assert found["status"] == status and said in found["detail"]
    return found


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Authorization": f"Bearer {KEY}"}, id="bearer"),
        pytest.param({"Authorization": f"bearer   {KEY} "}, id="small letters and blanks"),
        pytest.param({"X-API-Key": KEY}, id="x-api-key"),
        pytest.param({"Authorization": "Basic eDp5", "X-API-Key": KEY}, id="a proxy's own authorization beside it"),
    ],
)
async def test_a_key_opens_every_route(guarded: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Either header will do."""
    assert (await guarded.post("/v1/search", json=SEARCH, headers=headers)).status_code == 200
    assert (await guarded.get("/metrics", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        pytest.param({}, 401, "send an API key", id="none"),
        pytest.param({"Authorization": "Bearer"}, 401, "send an API key", id="bearer alone"),
        pytest.param({"Authorization": f"Basic {KEY}"}, 401, "send an API key", id="another scheme"),
        pytest.param({"X-API-Key": " "}, 401, "send an API key", id="a blank"),
        pytest.param({"Authorization": f"Bearer {KEY}x"}, 403, "not an API key", id="longer"),
        pytest.param({"X-API-Key": KEY[:-1]}, 403, "not an API key", id="shorter"),
        pytest.param({"X-API-Key": hashlib.sha256(KEY.encode()).hexdigest()}, 403, "not an API key", id="the digest"),
        pytest.param({"Authorization": f"Bearer {ADMIN}"}, 403, "not an API key", id="the admin key"),
        pytest.param({"Authorization": b"Bearer \xff\xfe"}, 403, "not an API key", id="no text"),
        pytest.param({"Authorization": "Bearer x", "X-API-Key": KEY}, 403, "not an API key", id="two keys: the first counts"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/search", "/v1/spellcheck", "/v1/suggest", "/v1/nothing", "/metrics", "/redoc", "/v1//search"]
)
async def test_without_a_key_nothing_is_served(
    guarded: httpx.AsyncClient, path: str, headers: dict[str, Any], status: int, said: str
) -> None:
    """401 with the scheme where there is no key, 403 where it is wrong; which routes exist is not told either."""
    answer = await guarded.get(path, params={"q": "halo"}, headers=headers)
    refused(answer, status, said)
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


async def test_a_body_is_not_read_from_somebody_without_a_key(guarded: httpx.AsyncClient) -> None:
    """The refusal comes before the body, however long."""
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 1024

    refused(await guarded.post("/v1/search", content=body()), 401, "send an API key")
    assert sent <= 1


async def test_over_the_rate_it_is_429(guarded: httpx.AsyncClient) -> None:
    """The burst passes, then the answer says when to come back; other keys are not held up by it."""
    slow = {"X-API-Key": SLOW}
    for _ in range(2):
        assert (await guarded.get("/v1/suggest", params={"q": "ha"}, headers=slow)).status_code == 200
    answer = await guarded.get("/v1/suggest", params={"q": "ha"}, headers=slow)
    refused(answer, 429, "over its rate")
    assert 95 <= int(answer.headers["retry-after"]) <= 100
    assert (await guarded.get("/v1/suggest", params={"q": "ha"}, headers={"X-API-Key": KEY})).status_code == 200


@pytest.mark.parametrize("path", [*sorted(OPEN), "/page/app.js"])
async def test_what_is_open_is_open(guarded: httpx.AsyncClient, path: str) -> None:
    """Probes, the page and the description of the API ask for nothing."""
    assert (await guarded.get(path)).status_code == 200


async def test_the_page_folder_is_no_way_round(guarded: httpx.AsyncClient) -> None:
    """A path that begins as an open one and goes elsewhere leads nowhere."""
    for path in ("/page/../v1/suggest?q=ha", "/page/%2e%2e/v1/suggest?q=ha", "/v1/catalogue/%2e%2e/suggest?q=ha"):
        answer = await guarded.get(httpx.URL(f"http://searchbar{path}"))
        assert answer.status_code in (401, 404), path


@pytest.mark.parametrize(
    ("key", "status"),
    [
        pytest.param(ADMIN, 200, id="the admin key suffices"),
        pytest.param(KEY, 403, id="an API key does not"),
        pytest.param(None, 401, id="none"),
    ],
)
async def test_the_catalogue_has_its_own_key(guarded: httpx.AsyncClient, key: str | None, status: int) -> None:
    """Whoever changes the catalogue needs the admin key and no other, keys on or off."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    assert (await guarded.get("/v1/catalogue/items/halo", headers=headers)).status_code == status


async def test_refusals_are_counted(guarded: httpx.AsyncClient) -> None:
    """The metrics show how many were turned away."""
    await guarded.get("/v1/suggest")
    text = (await guarded.get("/metrics", headers={"X-API-Key": KEY})).text
    assert 'status="401"} 1.0' in text


async def test_openai_raises_its_own_errors(gateway: Gateway, ring: KeyRing) -> None:
    """The `openai` package sends the key as it stands, and each refusal is the exception that its users know."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        app = create_app(gateway, access=Access(keys=ring))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        base_url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"

        async def ask(key: str) -> Any:
            async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
                return await client.embeddings.create(model="searchbar-embedder", input="halo")

        assert len((await ask(KEY)).data) == 1
        with pytest.raises(openai.PermissionDeniedError, match="not an API key") as wrong:
            await ask("sk-other")
        assert wrong.value.type == "invalid_request_error"
        await ask(SLOW)
        await ask(SLOW)
        with pytest.raises(openai.RateLimitError, match="over its rate"):
            await ask(SLOW)
        server.should_exit = True
        await serving


async def test_the_document_says_what_is_asked_for(opened: Opened, ring: KeyRing) -> None:
    """With keys on each route names both schemes and the refusals; the catalogue names the admin key, keys on or off."""
    on, off = [(await opened(Access(keys=keys)).get("/openapi.json")).json() for keys in (ring, None)]
    search = on["paths"]["/v1/search"]["post"]
    assert search["security"] == [{"apiKey": []}, {"apiKeyHeader": []}]
    assert {"401", "403", "429"} <= search["responses"].keys()
    assert "security" not in off["paths"]["/v1/search"]["post"] and "401" not in off["paths"]["/v1/search"]["post"]["responses"]
    for document in (on, off):
        assert "security" not in document["paths"]["/livez"]["get"]
        assert document["paths"]["/v1/catalogue/items"]["put"]["security"] == [{"adminKey": []}]
        named = {
            name for path in document["paths"].values() for op in path.values() for s in op.get("security", ()) for name in s
        }
        assert named == set(document["components"]["securitySchemes"])


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


async def test_no_other_origin_is_let_in_by_default(client: httpx.AsyncClient) -> None:
    """Unless one is named, no answer carries a CORS header."""
    headers = {"Origin": "https://music.example"}
    preflight = await client.options("/v1/search", headers={**headers, **PREFLIGHT})
    answer = await client.post("/v1/search", json=SEARCH, headers=headers)
    for found in (preflight, answer):
        assert not [name for name in found.headers if name.startswith("access-control")]
    assert (preflight.status_code, answer.status_code) == (405, 200)


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        pytest.param("https://music.example", True, id="named"),
        pytest.param("http://localhost:3000", True, id="named with a port"),
        pytest.param("https://evil.example", False, id="another"),
        pytest.param("http://music.example", False, id="another scheme"),
        pytest.param("https://music.example.evil.example", False, id="a name that begins so"),
        pytest.param("null", False, id="no origin to speak of"),
    ],
)
async def test_named_origins_are_let_in(opened: Opened, ring: KeyRing, origin: str, let_in: bool) -> None:
    """Preflights need no key; answers and refusals name the origin; never `*`, and never with credentials."""
    guarded = opened(Access(ring, ("https://music.example", "http://localhost:3000")))
    preflight = await guarded.options("/v1/search", headers={"Origin": origin, **PREFLIGHT})
    served = await guarded.post("/v1/search", json=SEARCH, headers={"Origin": origin, "X-API-Key": KEY})
    wrong = await guarded.post("/v1/search", json=SEARCH, headers={"Origin": origin})
    assert (preflight.status_code, served.status_code, wrong.status_code) == (200 if let_in else 400, 200, 401)
    for found in (preflight, served, wrong):
        assert found.headers.get("access-control-allow-origin") == (origin if let_in else None)
        assert "access-control-allow-credentials" not in found.headers
        assert found.headers["x-content-type-options"] == "nosniff"
    assert "Origin" in served.headers["vary"] or not let_in
