"""Live updates by HTTP: who may, what is taken, what is refused, and what a broken bulk says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.types import Message

from app.api import create_app
from app.catalogue import BATCH, LiveCatalogue
from app.errors import IndexUnavailable, ModelUnavailable
from app.fakes import FakeIndex, FakeTriton
from app.gateway import Gateway

KEY = "clé d’admin"
ITEMS = "/v1/catalogue/items"
HEADERS = {"Authorization": f"Bearer {KEY}".encode(), "Content-Type": b"application/x-ndjson"}
MAX_BULK = 1024 * 1024


@pytest.fixture
def live(gateway: Gateway, index: FakeIndex) -> Gateway:
    gateway.catalogue = LiveCatalogue(index, gateway.embedder, gateway.speller, gateway.completions)
    return gateway


@pytest.fixture
async def admin(live: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(live, max_bulk_bytes=MAX_BULK, admin_key=KEY)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://searchbar", headers=HEADERS) as opened:
        yield opened


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"new-{number}", "title": f"Zorblax {number}", "artist": "Vexillum Nine", **more}


def ndjson(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("PUT", ITEMS, id="put"),
        pytest.param("GET", ITEMS + "/halo", id="get"),
        pytest.param("DELETE", ITEMS + "/halo", id="delete"),
    ],
)
async def test_the_key_is_asked_for(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, index: FakeIndex, method: str, path: str
) -> None:
    """Off says how to switch on, no key is 401 with the scheme, a wrong one 403; nothing has changed after any of them."""
    body = {"content": ndjson(row(1))} if method == "PUT" else {}
    off = await client.request(method, path, headers=HEADERS, **body)
    assert (off.status_code, "SEARCHBAR_ADMIN_KEY" in off.json()["detail"]) == (403, True)
    for header in ("", "Bearer", "Bearer ", "Basic " + "x" * 8):
        missing = await admin.request(method, path, headers={"Authorization": header}, **body)
        assert (missing.status_code, missing.headers["www-authenticate"]) == (401, "Bearer")
    for wrong in ("Bearer x", "Bearer " + KEY + "x", "bearer é"):
        refused = await admin.request(method, path, headers={"Authorization": wrong.encode()}, **body)
        assert refused.status_code == 403
        assert refused.headers["content-type"] == "application/problem+json"
    assert await index.count() == 6
    right = await admin.request(method, path, headers={"Authorization": f"bearer  {KEY} ".encode()}, **body)
    assert right.status_code in (200, 204)


async def test_an_added_item_is_found_completed_and_corrected_to(admin: httpx.AsyncClient, triton: FakeTriton) -> None:
    """Right after the answer: by name, as a completion, and as the reading of a typo that was asked for before."""
    triton.corrections["zorblaxx quintessence"] = "zorblax quintessence"
    before = (
        await admin.post("/v1/spellcheck", json={"query": "zorblax quintesence"}, headers={"Content-Type": "application/json"})
    ).json()
    assert before["results"][0]["corrected"] == "zorblax quintesence"
    added = await admin.put(
        ITEMS, content=ndjson({"title": "Zorblax Quintessence", "id": "z/1 ?", "label": "Odd", "year": 2026})
    )
    assert added.json() == {"upserted": 1, "rejected": [], "rejected_total": 0, "items": 7}
    triton.corrections["zorblax quintesence"] = "zorblax quintessence"
    after = (
        await admin.post("/v1/spellcheck", json={"query": "zorblax quintesence"}, headers={"Content-Type": "application/json"})
    ).json()
    assert after["results"][0]["corrected"] == "zorblax quintessence"
    assert (await admin.get("/v1/search?q=zorblax")).json()["hits"][0]["id"] == "z/1 ?"
    assert (await admin.get("/v1/suggest?q=zorb")).json()["completions"][0]["text"] == "Zorblax Quintessence"
    stored = (await admin.get(ITEMS + "/z%2F1%20%3F")).json()
    assert (stored["year"], stored["extra"]) == (2026, {"label": "Odd"})


async def test_a_replaced_item_no_longer_goes_by_its_old_name(
    admin: httpx.AsyncClient, live: Gateway, index: FakeIndex
) -> None:
    """The lexicon and the completions forget a name that no item bears any more."""
    assert live.speller.lexicon.is_name("halo")
    await admin.put(ITEMS, content=ndjson({"id": "halo", "title": "Aureole", "artist": "Beyoncé"}))
    assert not live.speller.lexicon.is_name("halo")
    assert live.speller.lexicon.is_name("aureole")
    assert (await admin.get("/v1/suggest?q=halo")).json()["completions"] == []
    assert await index.count() == 6


async def test_a_removed_item_is_gone(admin: httpx.AsyncClient, live: Gateway) -> None:
    """204 once, 404 from then on, and no part of the service knows it any more."""
    assert (await admin.delete(ITEMS + "/halo")).status_code == 204
    for method in ("DELETE", "GET"):
        again = await admin.request(method, ITEMS + "/halo")
        assert (again.status_code, "halo" in again.json()["detail"]) == (404, True)
    assert not live.speller.lexicon.is_name("halo")
    assert (await admin.get("/v1/search?q=halo")).json()["hits"] == []


@pytest.mark.parametrize("path", ["/unknown", "/", "/%00", "/%ff%fe", "/%ed%a0%80", "/a%2Fb/../c", "/" + "x" * 2000])
async def test_unknown_ids_are_404(admin: httpx.AsyncClient, path: str) -> None:
    """Whatever is in the path, the answer is a problem that can be read."""
    assert (await admin.delete(ITEMS + path)).status_code == 404
    assert "detail" in (await admin.get(ITEMS + path)).json()


BAD = [
    pytest.param(b'{"id": "x"}', "title is missing or blank", id="no title"),
    pytest.param(b'{"title": " "}', "title is missing or blank", id="blank title"),
    pytest.param(b'{"title": "x", "artist": "' + b"a" * 70_000 + b'"}', "line over 64 KiB", id="a long cell"),
    pytest.param(b'{"title": "' + b"a" * 900_000 + b'"}', "line over 64 KiB", id="a very long cell"),
    pytest.param(b'{"title": "\xff\xfe"}', "not valid UTF-8", id="invalid UTF-8"),
    pytest.param(b'{"title": "x", "year": NaN}', "not valid JSON", id="NaN year"),
    pytest.param(b'{"title": "x", "year": "NaN"}', "year 'NaN' is not a whole number", id="NaN year as text"),
    pytest.param(b'{"title": "x", "year": 1e400}', "not", id="an endless year"),
    pytest.param(b'{"title": "x", "popularity": 101}', "popularity 101", id="popularity over 100"),
    pytest.param(b'{"title": ["x"]}', "title is not text", id="a list as title"),
    pytest.param(b'{"title": "x", "kind": "film"}', "kind 'film' is none of", id="unknown kind"),
    pytest.param(b'["title"]', "not a JSON object", id="a list"),
    pytest.param(b"title", "not valid JSON", id="no JSON"),
    pytest.param(b'{"title": "\\ud800"}', "not valid JSON", id="half a character"),
    pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, "not valid JSON", id="nested too deep"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
async def test_a_bad_row_costs_itself_alone(admin: httpx.AsyncClient, index: FakeIndex, line: bytes, reason: str) -> None:
    """It is listed with its line and why; the rows before and behind it are taken."""
    body = b"\n".join([ndjson(row(1)).strip(), b"", line, ndjson(row(2)).strip()])
    answer = (await admin.put(ITEMS, content=body)).json()
    assert (answer["upserted"], answer["rejected_total"]) == (2, 1)
    assert (answer["rejected"][0]["line"], reason in answer["rejected"][0]["reason"]) == (3, True), answer
    assert await index.count() == 8


async def test_a_hundred_bad_rows_are_listed_and_all_are_counted(admin: httpx.AsyncClient) -> None:
    """A body of nothing but bad rows changes nothing and says so."""
    answer = (await admin.put(ITEMS, content=b"{}\n" * 250)).json()
    assert (answer["upserted"], len(answer["rejected"]), answer["rejected_total"], answer["items"]) == (0, 100, 250, 6)
    assert (await admin.put(ITEMS, content=b"")).json() == {"upserted": 0, "rejected": [], "rejected_total": 0, "items": 6}


@pytest.mark.parametrize("between", [0, 2 * BATCH], ids=["one batch", "batches apart"])
async def test_of_rows_with_one_id_the_last_counts(admin: httpx.AsyncClient, live: Gateway, between: int) -> None:
    """In one batch as in several; both count as upserted, and the earlier name is forgotten."""
    rows = [row(1, title="First"), *(row(at + 2) for at in range(between)), row(1, title="Last")]
    answer = (await admin.put(ITEMS, content=ndjson(*rows))).json()
    assert (answer["upserted"], answer["items"]) == (between + 2, 7 + between)
    assert (await admin.get(ITEMS + "/new-1")).json()["title"] == "Last"
    assert not live.speller.lexicon.is_name("first")


async def test_lines_may_be_cut_anywhere(admin: httpx.AsyncClient) -> None:
    """A body in chunks of seven bytes, with a byte-order mark, CRLF and no end to its last line, is read all the same."""
    body = b"\xef\xbb\xbf" + ndjson(*(row(at, title="Zö") for at in range(20))).replace(b"\n", b"\r\n")[:-2]

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    answer = (await admin.put(ITEMS, content=chunks())).json()
    assert (answer["upserted"], answer["rejected"]) == (20, [])


@pytest.mark.parametrize("sent_as", ["application/json", "text/csv", ""])
async def test_another_type_is_415(admin: httpx.AsyncClient, sent_as: str) -> None:
    """The problem names the type to send."""
    answer = await admin.put(ITEMS, content=ndjson(row(1)), headers={"Content-Type": sent_as})
    assert (answer.status_code, "application/x-ndjson" in answer.json()["detail"]) == (415, True)


async def test_the_bulk_has_a_limit_of_its_own(admin: httpx.AsyncClient, index: FakeIndex) -> None:
    """Over 64 KiB is taken; over the bulk limit is 413: at once when declared, else with what was acknowledged until then."""
    wide = [row(at, note="x" * 1000) for at in range(1100)]
    assert (await admin.put(ITEMS, content=ndjson(*wide[:300]))).json()["upserted"] == 300
    declared = await admin.put(ITEMS, content=ndjson(*wide))
    assert (declared.status_code, await index.count()) == (413, 306)

    async def chunks() -> AsyncIterator[bytes]:
        for one in wide:
            yield ndjson(one)

    streamed = await admin.put(ITEMS, content=chunks())
    assert (streamed.status_code, streamed.json()["acknowledged"]) == (413, 3 * BATCH)
    assert await index.count() == 6 + 3 * BATCH


@pytest.mark.parametrize(
    ("broken", "status"), [pytest.param("index", 503, id="the index"), pytest.param("embedder", 503, id="the embedder")]
)
async def test_a_bulk_that_fails_says_how_far_it_came(
    admin: httpx.AsyncClient, index: FakeIndex, triton: FakeTriton, live: Gateway, broken: str, status: int
) -> None:
    """The first batch is there and named; the second is not; sent again all is."""
    body = ndjson(*(row(at) for at in range(2 * BATCH)))
    if broken == "index":
        index.write_failures = [None, IndexUnavailable("the disk is full")]
    else:
        triton.failures["embedder"] = ModelUnavailable("embedder: unavailable")
    failed = await admin.put(ITEMS, content=body)
    written = BATCH if broken == "index" else 0
    assert (failed.status_code, failed.json()["acknowledged"], await index.count()) == (status, written, 6 + written)
    assert failed.headers["retry-after"]
    assert live.speller.lexicon.is_name("zorblax 300") is False
    triton.failures.clear()
    assert (await admin.put(ITEMS, content=body)).json()["items"] == 6 + 2 * BATCH
    assert live.speller.lexicon.is_name("zorblax 300")


async def test_a_client_that_leaves_keeps_what_was_acknowledged(
    live: Gateway, index: FakeIndex, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole batches stay, the half one is dropped, the log says so, and the catalogue can be changed again."""
    app = create_app(live, admin_key=KEY)
    messages: list[Message] = [
        {"type": "http.request", "body": ndjson(*(row(at) for at in range(BATCH + 10))), "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        pass

    headers = [(name.lower().encode(), value) for name, value in HEADERS.items()]
    scope = {
        "type": "http",
        "method": "PUT",
        "path": ITEMS,
        "raw_path": ITEMS.encode(),
        "query_string": b"",
        "headers": headers,
    }
    await app(
        {**scope, "http_version": "1.1", "scheme": "http", "server": ("searchbar", 80), "client": None, "root_path": ""},
        receive,
        send,
    )
    assert await index.count() == 6 + BATCH
    assert f"{BATCH} of its rows" in caplog.text
    assert live.catalogue is not None
    await live.catalogue.upsert([replace(index.rows[0], title="Zorblax Quintessence")])
    assert live.speller.lexicon.is_name("zorblax quintessence")
