"""The HTTP contract of live updates: NDJSON in bulk, one item by its id. For whoever has the admin key."""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import schemas
from app.catalogue import BulkReport, LiveCatalogue
from app.errors import Forbidden, KeyMissing, SearchbarError, UnsupportedType
from app.index.readers import MAX_CELL_BYTES
from app.problems import problem, problem_of, problem_of_http

log = logging.getLogger("searchbar.catalogue")

BULK = "/v1/catalogue/items"
MEDIA_TYPE = "application/x-ndjson"
MAX_LINE_BYTES = MAX_CELL_BYTES

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "content": {"application/problem+json": {}}, "description": text}
    for status, text in {401: "No admin key was sent", 403: "The key is wrong, or live updates are off"}.items()
}
WRONG_TYPE: dict[int | str, dict[str, Any]] = {415: {**PROBLEMS[401], "description": f"The body is not sent as {MEDIA_TYPE}"}}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {**PROBLEMS[401], "description": "There is no such item"}}

router = APIRouter(tags=["catalogue"], responses=PROBLEMS)


async def authorised(request: Request) -> LiveCatalogue:
    """The catalogue, for whoever sent its key as ``Authorization: Bearer KEY``.

    Raises:
        Forbidden: live updates are off, or the key is wrong.
        KeyMissing: none was sent.
    """
    catalogue: LiveCatalogue | None = request.app.state.gateway.catalogue
    key: str | None = request.app.state.admin_key
    if not key or catalogue is None:
        raise Forbidden("live updates are off: start the server with SEARCHBAR_ADMIN_KEY set to a secret of yours")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise KeyMissing("send the admin key: `Authorization: Bearer KEY`")
    if not hmac.compare_digest(given.strip().encode("latin-1"), key.encode()):
        raise Forbidden("this is not the admin key of this server")
    return catalogue


Live = Annotated[LiveCatalogue, Depends(authorised)]

NDJSON_BODY = {
    "required": True,
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": '{"id": "1", "title": "Halo"}\n'}},
}


@router.put(BULK, response_model=schemas.BulkOut, responses=WRONG_TYPE, openapi_extra={"requestBody": NDJSON_BODY})
async def put_items(request: Request, catalogue: Live) -> Response:
    """Add items, or replace those of the same id: one JSON object a line, with the columns of catalogue files.

    Every 256 rows are durable together; of rows with the same id the last counts. When it ends early, the problem's
    `acknowledged` says how many of the accepted rows are on the disk; all may be sent again.
    """
    sent_as = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent_as != MEDIA_TYPE:
        raise UnsupportedType(f"send one JSON object a line as `Content-Type: {MEDIA_TYPE}`")
    report = BulkReport()
    try:
        await catalogue.upsert_lines(numbered(request.stream(), MAX_LINE_BYTES), report)
    except SearchbarError as exc:
        return problem_of(exc, acknowledged=report.upserted)
    except HTTPException as exc:
        return problem_of_http(exc, acknowledged=report.upserted)
    except ClientDisconnect:
        log.warning("a client left during a bulk upsert: %d of its rows are on the disk", report.upserted)
        return problem(400, "Bad request", "the body ended early", acknowledged=report.upserted)
    return json_answer(
        {
            "upserted": report.upserted,
            "rejected": [asdict(row) for row in report.rejected],
            "rejected_total": report.rejected_total,
            "items": await catalogue.count(),
        }
    )


@router.get(BULK + "/{item_id:path}", response_model=schemas.ItemOut, responses=NOT_FOUND)
async def get_item(item_id: str, catalogue: Live) -> Response:
    """The item as it is stored, other columns in `extra`."""
    return json_answer(asdict(await catalogue.get(item_id)))


@router.delete(BULK + "/{item_id:path}", status_code=204, response_class=Response, responses=NOT_FOUND)
async def delete_item(item_id: str, catalogue: Live) -> Response:
    """Remove one item; it is gone from the disk too when this is answered."""
    await catalogue.delete(item_id)
    return Response(status_code=204)


async def numbered(chunks: AsyncIterator[bytes], longest: int) -> AsyncIterator[tuple[int, bytes | None]]:
    """(line number, line) from a body in chunks; None for a line of more than `longest` bytes. Holds one line at most."""
    held, number, skipping = bytearray(), 1, False
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            yield number, None if skipping or len(held) + len(end) > longest else bytes(held) + end
            held.clear()
            number, skipping = number + 1, False
        skipping = skipping or len(held) + len(rest) > longest
        if skipping:
            held.clear()
        else:
            held += rest
    if held or skipping:
        yield number, None if skipping else bytes(held)


def json_answer(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
