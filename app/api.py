"""The HTTP contract: each route translates and delegates. Errors become statuses in `problems.py`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from app import __version__, api_catalogue, schemas
from app.access import Access, describe
from app.admit import Admit
from app.application import Application
from app.completion import MAX_LIMIT
from app.domain import Correction, Hit
from app.errors import InvalidInput, SearchbarError
from app.gateway import Gateway
from app.headers import PAGE as PAGE_HEADERS
from app.headers import docs_policy
from app.index.vectors import shorten
from app.lean import Lean, lean_routes
from app.middleware import BodyLimit, Measure, Traced
from app.problems import on_defect, on_http_error, on_searchbar_error, on_validation_error, problem
from app.spans import Tracer
from app.text import normalise

PAGE = Path(__file__).parent / "page"
MODEL_NAME = "searchbar-embedder"
EMBEDDINGS = orjson.OPT_SERIALIZE_NUMPY
BUSIEST: dict[str, type[BaseModel]] = {
    "/v1/spellcheck": schemas.QueryBody,
    "/v1/embed": schemas.QueryBody,
    "/v1/search": schemas.SearchBody,
}

router = APIRouter()


class Assets(StaticFiles):
    """The page's files, revalidated at each use: modules of two versions must not meet in one browser."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def gateway(request: Request) -> Gateway:  # FastAPI would run a plain function in a thread, once a request
    found: Gateway = request.app.state.gateway
    return found


Behind = Annotated[Gateway, Depends(gateway)]


def answer(body: dict[str, Any], timings_ms: Mapping[str, float], option: int = 0) -> Response:
    """JSON with the stage timings, in the body and as `Server-Timing`."""
    rounded = {stage: round(took, 2) for stage, took in timings_ms.items()}
    header = ", ".join(f"{stage};dur={took}" for stage, took in rounded.items())
    content = orjson.dumps({**body, "timings_ms": rounded}, option=option)
    return Response(content, media_type="application/json", headers={"Server-Timing": header} if header else {})


@router.post("/v1/spellcheck", response_model=schemas.SpellcheckOut, tags=["spelling"])
async def spellcheck(body: schemas.QueryBody, behind: Behind) -> Response:
    """Correct the spelling of one query or several."""
    texts = body.texts()
    corrections, timings = await behind.correct(texts)
    behind.telemetry.timed(timings)
    return answer({"results": [correction_json(t, c) for t, c in zip(texts, corrections, strict=True)]}, timings)


@router.post("/v1/embed", response_model=schemas.EmbedOut, tags=["embedding"])
async def embed(body: schemas.QueryBody, behind: Behind) -> Response:
    """L2-normalised embeddings of one query or several."""
    vectors, timings = await behind.embed(body.texts())
    behind.telemetry.timed(timings)
    found = {"model": MODEL_NAME, "dimensions": len(vectors[0]), "embeddings": vectors}
    return answer(found, timings, EMBEDDINGS)


@router.post("/v1/search", response_model=schemas.SearchOut, tags=["search"])
async def search(body: schemas.SearchBody, behind: Behind) -> Response:
    """Tracks, albums, artists and podcasts for a query, spelling corrected."""
    return await find(behind, body)


@router.get("/v1/search", response_model=schemas.SearchOut, tags=["search"])
async def search_by_url(
    behind: Behind,
    q: Annotated[str, Query(min_length=1, max_length=256, examples=["bohemian rapsody"])],
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> Response:
    """The same without filters, for links and quick tries."""
    return await find(behind, schemas.SearchBody(query=q, limit=limit))


@router.get("/v1/suggest", response_model=schemas.SuggestOut, tags=["search"])
async def suggest(
    behind: Behind,
    q: Annotated[str, Query(min_length=1, max_length=256, examples=["bilie j"])],
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 8,
) -> Response:
    """Titles, artists, albums and podcasts that begin as the text typed so far, a typo forgiven from four characters on."""
    found, timings = behind.complete(q, limit)
    behind.telemetry.timed(timings)
    return answer({"query": clean(q), "completions": found}, timings)


async def find(behind: Gateway, body: schemas.SearchBody) -> Response:
    found = await behind.search.search(body.query, body.limit, body.filters.to_filters())
    behind.telemetry.timed(found.timings_ms)
    for part in found.degraded:
        behind.telemetry.degraded.labels(part).inc()
    content = {
        "query": clean(body.query),
        "corrected": found.correction.corrected if found.correction else normalise(body.query),
        "action": found.correction.action if found.correction else "none",
        "hits": [hit_json(hit) for hit in found.hits],
        "degraded": found.degraded,
    }
    return answer(content, found.timings_ms)


@router.post("/v1/embeddings", response_model=schemas.OpenAIEmbeddingsOut, tags=["embedding"])
async def openai_embeddings(body: schemas.OpenAIEmbeddingsBody, behind: Behind) -> Response:
    """Embeddings in OpenAI's shape. `usage` counts words: the gateway does not tokenise."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors, timings = await behind.embed(texts)
    behind.telemetry.timed(timings)
    if body.dimensions is not None:
        if body.dimensions > len(vectors[0]):
            raise InvalidInput(f"at most {len(vectors[0])}", "dimensions")
        vectors = [shorten(vector, body.dimensions) for vector in vectors]
    encode: Callable[[Any], Any] = (
        (lambda v: base64.b64encode(np.ascontiguousarray(v, "<f4").tobytes()).decode())
        if body.encoding_format == "base64"
        else (lambda v: v)
    )
    data = [{"object": "embedding", "index": i, "embedding": encode(v)} for i, v in enumerate(vectors)]
    words = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": words, "total_tokens": words}
    content = {"object": "list", "data": data, "model": MODEL_NAME, "usage": usage}
    return Response(orjson.dumps(content, option=EMBEDDINGS), media_type="application/json")


@router.get("/livez", response_model=schemas.Health, tags=["operations"])
async def livez() -> Response:
    """The process answers."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/readyz", response_model=schemas.Health, responses={503: {"model": schemas.Problem}}, tags=["operations"])
async def readyz(behind: Behind) -> Response:
    """Every model is ready and answered a canary just now, and the index can be read."""
    if behind.draining:
        return problem(503, "Not ready", "not ready: the server is about to stop", {"Retry-After": "1"})
    checks = await behind.checks()
    if all(checks.values()):
        return Response(orjson.dumps({"status": "ok", "checks": checks}), media_type="application/json")
    away = ", ".join(name for name, ready in checks.items() if not ready)
    return problem(503, "Not ready", f"not ready: {away}", {"Retry-After": "1"}, checks=checks)


@router.get("/metrics", tags=["operations"], response_class=Response)
async def metrics(behind: Behind) -> Response:
    """Prometheus metrics of the gateway; Triton's own are on its metrics port."""
    return Response(behind.telemetry.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    html = get_swagger_ui_html(openapi_url="/openapi.json", title="Searchbar", swagger_favicon_url="/page/icon.svg")
    html.headers["Content-Security-Policy"] = docs_policy(bytes(html.body))
    return html


def correction_json(text: str, c: Correction) -> dict[str, Any]:
    return {
        "query": clean(text),
        "corrected": c.corrected,
        "changed": c.changed,
        "confidence": c.confidence,
        "action": c.action,
        "alternatives": [{"text": a.text, "confidence": a.confidence} for a in c.alternatives],
    }


def hit_json(hit: Hit) -> dict[str, Any]:
    item = hit.item
    return {
        "id": item.id,
        "kind": item.kind,
        "title": item.title,
        "artist": item.artist,
        "album": item.album,
        "year": item.year,
        "score": round(hit.score, 6),
        "matched_by": hit.matched_by,
    }


def clean(text: str) -> str:
    """`text` as sent, lone surrogates replaced: JSON is UTF-8."""
    return text.encode("utf-8", "replace").decode()


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "content": {"application/problem+json": {}}, "description": text}
    for status, text in {
        400: "The body is no text",
        408: "The body did not come in time",
        413: "Body over the limit",
        422: "A field is wrong; `errors` names it",
        429: "Overloaded: retry after `Retry-After`",
        503: "A model or the index is away: retry after `Retry-After`",
        504: "Deadline exceeded",
    }.items()
}


def create_app(
    gateway: Gateway,
    *,
    max_body_bytes: int = 64 * 1024,
    max_bulk_bytes: int = 64 * 1024 * 1024,
    admin_key: str | None = None,
    access: Access = Access(),
    tracer: Tracer | None = None,
) -> FastAPI:
    """The application over a ready gateway; without `admin_key` nobody may change the catalogue."""
    app = Application(
        title="Searchbar",
        version=__version__,
        summary="Spelling correction, query embedding and hybrid retrieval for a music search bar.",
        responses=PROBLEMS,
        docs_url=None,  # ours is told apart by its policy
        redoc_url=None,
    )
    app.include_router(router)
    app.include_router(api_catalogue.router)
    app.mount("/page", Assets(directory=PAGE), name="page")
    app.add_exception_handler(SearchbarError, on_searchbar_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_defect)
    app.add_middleware(Lean, gateway=gateway, routes=lean_routes(router.routes, BUSIEST))
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes, of_path={api_catalogue.BULK: max_bulk_bytes})
    if gateway.admission is not None:
        app.add_middleware(Admit, admission=gateway.admission, max_body_bytes=max_body_bytes)
    access.guard(app)  # outside: nothing is read from, and no place held for, somebody without a key
    app.add_middleware(Measure, telemetry=gateway.telemetry, headers=access.headers)
    if tracer is not None:
        app.add_middleware(Traced, tracer=tracer)
    app.state.gateway = gateway
    app.state.admin_key = admin_key
    plain = app.openapi
    app.openapi = lambda: describe(plain(), access.keys is not None)  # type: ignore[method-assign]  # FastAPI's own way
    return app
