"""Errors → HTTP: the one table, and RFC 9457 problem documents."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from app import errors

log = logging.getLogger("searchbar.http")

OPENAI_PATH = "/v1/embeddings"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

STATUS: dict[type[errors.SearchbarError], tuple[int, str]] = {
    errors.TooLarge: (413, "Too large"),
    errors.UnsupportedType: (415, "Unsupported media type"),
    errors.InvalidInput: (422, "Invalid input"),
    errors.KeyMissing: (401, "Key missing"),
    errors.Forbidden: (403, "Forbidden"),
    errors.UnknownItem: (404, "Not found"),
    errors.Overloaded: (429, "Overloaded"),
    errors.RateExceeded: (429, "Rate exceeded"),
    errors.ModelUnavailable: (503, "Model unavailable"),
    errors.IndexUnavailable: (503, "Index unavailable"),
    errors.ModelFailed: (503, "Model failed"),
    errors.DeadlineExceeded: (504, "Deadline exceeded"),
}
TITLES = {400: "Bad request", 404: "Not found", 405: "Method not allowed", 408: "Request timeout", 413: "Too large"}


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """A problem document; `more` are its extension members."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(orjson.dumps(body), status, headers, media_type="application/problem+json")


async def on_searchbar_error(request: Request, exc: Exception) -> Response:
    """Domain errors by the table; anything unknown to it is a defect and says so in the log."""
    assert isinstance(exc, errors.SearchbarError)
    if isinstance(exc, errors.ModelFailed):
        log.warning("%s %s: %s", request.method, request.url.path, exc)
    field = exc.field if isinstance(exc, errors.InvalidInput) else None
    return problem_of(exc, **openai_error(request, str(exc), field))


def problem_of(exc: errors.SearchbarError, **more: Any) -> Response:
    """The problem document of a domain error; `more` are its extension members."""
    status, title = next((STATUS[t] for t in type(exc).__mro__ if t in STATUS), (500, "Internal error"))
    headers = {"Retry-After": str(max(1, round(exc.retry_after_s)))} if isinstance(exc, errors.Unavailable) else {}
    if isinstance(exc, errors.ModelFailed):
        headers = {"Retry-After": "1"}
    if isinstance(exc, errors.KeyMissing):
        headers = {"WWW-Authenticate": "Bearer"}
    if isinstance(exc, errors.InvalidInput) and exc.field:
        more["errors"] = [{"field": exc.field, "message": str(exc)}]
    return problem(status, title, str(exc), headers, **more)


async def on_validation_error(request: Request, exc: Exception) -> Response:
    """422 with each wrong field named; the values are not echoed, they may not even be encodable."""
    assert isinstance(exc, RequestValidationError)
    found = [{"field": field(error), "message": _clean(str(error["msg"]))} for error in exc.errors()]
    detail = "; ".join(f"{error['field']}: {error['message']}" for error in found)
    return problem(422, "Invalid input", detail, errors=found, **openai_error(request, detail, found[0]["field"]))


def openai_error(request: Request, message: str, field: str | None, kind: str | None = None) -> dict[str, Any]:
    """The extension member from which OpenAI's clients take what they print, for the route that is theirs.

    Without a `kind` the error is the request's where a field is named, else the server's.
    """
    if request.url.path != OPENAI_PATH:
        return {}
    kind = kind or ("invalid_request_error" if field else "server_error")
    return {"error": {"message": message, "type": kind, "param": field}}


def field(error: dict[str, Any]) -> str:
    """The dotted path of the wrong field, ``body`` where the body itself is wrong."""
    source, *path = error["loc"]
    if not path or error["type"] == "json_invalid":  # then `path` is an offset
        return str(source)
    return ".".join(str(part) for part in path)


async def on_http_error(request: Request, exc: Exception) -> Response:
    """Unknown routes, wrong methods and unreadable bodies, in the same shape as every other error."""
    assert isinstance(exc, HTTPException)
    return problem_of_http(exc, request)


def problem_of_http(exc: HTTPException, request: Request | None = None, **more: Any) -> Response:
    """The problem document of an error that is one of HTTP; `more` are its extension members.

    Args:
        request: what was asked for, to name the methods of its path where its own is none of them.
    """
    headers = dict(exc.headers or {})
    if exc.status_code == 405 and request is not None:
        headers["Allow"] = allowed(request)
    return problem(exc.status_code, TITLES.get(exc.status_code, "Error"), str(exc.detail), headers, **more)


def allowed(request: Request) -> str:
    """The methods of the path, for `Allow`: the framework names those of the first route alone that has the path."""
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    asked = [{**request.scope, "method": method} for method in METHODS]
    found = [scope["method"] for scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]
    return ", ".join(found) or "GET, HEAD"  # the page's files


async def on_defect(request: Request, exc: Exception) -> Response:
    log.exception("%s %s", request.method, request.url.path, exc_info=exc)
    return problem(500, "Internal error", "this is a defect of the service; its log has the details")


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
