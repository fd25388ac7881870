"""What every answer tells browsers, after OWASP's cheat sheets: answers of every kind, errors and refusals included."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from app.access import Access
from app.api import create_app
from app.fakes import FakeTriton
from app.gateway import Gateway

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.fixture
async def secure(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """The application as it is when TLS ends at the server."""
    transport = httpx.ASGITransport(create_app(gateway, access=Access(https=True)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://searchbar") as opened:
        yield opened


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/v1/search?q=halo", 200, id="answer"),
        pytest.param("GET", "/livez", 200, id="probe"),
        pytest.param("GET", "/metrics", 200, id="metrics"),
        pytest.param("GET", "/openapi.json", 200, id="document"),
        pytest.param("GET", "/v1/nothing", 404, id="unknown route"),
        pytest.param("PUT", "/v1/search", 405, id="wrong method"),
        pytest.param("POST", "/v1/search", 413, id="too long"),
        pytest.param("POST", "/v1/embed", 422, id="no body"),
        pytest.param("GET", "/v1/catalogue/items/halo", 403, id="live updates off"),
        pytest.param("GET", "/", 200, id="page"),
        pytest.param("GET", "/page/app.js", 200, id="script"),
        pytest.param("GET", "/page/nothing.js", 404, id="no script"),
        pytest.param("GET", "/docs", 200, id="viewer"),
        pytest.param("POST", "/v1/embed", 500, id="defect"),
    ],
)
async def test_every_answer_is_confined(
    secure: httpx.AsyncClient, triton: FakeTriton, method: str, path: str, status: int
) -> None:
    """No guessing of types, no framing, no referrer, one policy and one caching rule, and HTTPS from now on."""
    body = {413: b" " * 70_000, 500: b'{"query": "halo"}'}.get(status)
    if status == 500:
        triton.failures["embedder"] = ZeroDivisionError()  # type: ignore[assignment]  # nothing that is raised on purpose
    answer = await secure.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert ALWAYS.items() <= dict(answer.headers).items()
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
    files = path == "/" or (path.startswith("/page/") and status == 200)
    assert answer.headers.get_list("cache-control") == ["no-cache" if files else "no-store"]
    assert len(answer.headers.get_list("content-security-policy")) == 1
    assert not {"server", "x-powered-by"} & set(answer.headers)


async def test_an_outage_is_confined(client: httpx.AsyncClient, triton: FakeTriton) -> None:
    """503 too; without TLS of its own the server says nothing of HTTPS."""
    triton.stop()
    answer = await client.post("/v1/embed", json={"query": "halo"})
    assert answer.status_code == 503 and ALWAYS.items() <= dict(answer.headers).items()
    assert answer.headers["cache-control"] == "no-store" and "strict-transport-security" not in answer.headers


async def test_the_page_runs_its_own_scripts_alone(client: httpx.AsyncClient) -> None:
    """Scripts and styles from this origin, none inline, no plug-ins, no other form target, no powerful features."""
    answer = await client.get("/")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src", "form-action")} == {"'self'"}
    assert policy["base-uri"] == "'none'" and policy["require-trusted-types-for"] == "'script'"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in answer.headers["permissions-policy"]
    assert not re.search(r"<script>|<style|\son\w+=|style=", answer.text)


async def test_the_viewer_may_run_its_own_inline_script(client: httpx.AsyncClient) -> None:
    """The policy of /docs has the hash of the one inline script that the page has, and allows no other."""
    answer = await client.get("/docs")
    (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert f"'sha256-{digest}'" in policy["script-src"].split()
    assert "unsafe-inline" not in policy["script-src"] and "unsafe-eval" not in policy["script-src"]
    for source in re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', answer.text):
        assert source.startswith(("/page/", "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/"))
