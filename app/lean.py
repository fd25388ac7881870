"""The busiest routes without the framework's machinery in between: same functions, same schemas, same answers.

FastAPI resolves dependencies, opens exit stacks and walks its routers for each request; for a short query that is more work
than all the gateway does besides (ADR 24). This middleware, the innermost, reads and validates the body of a
well-formed POST itself and calls the route's function. Whatever it does not understand at once (another content type, a body
that does not validate) goes to FastAPI with its body as it came, so that errors have one source.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import SearchbarError
from app.gateway import Gateway
from app.problems import on_defect, on_http_error, on_searchbar_error

JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class LeanRoute:
    """A POST route: its entry in the application's table, what its body is, and the function that answers."""

    route: APIRoute
    body: type[BaseModel]
    answer: Callable[..., Awaitable[Response]]


def lean_routes(routes: Sequence[BaseRoute], bodies: Mapping[str, type[BaseModel]]) -> dict[str, LeanRoute]:
    """By path, the POST routes among `routes` that have a body in `bodies`: their functions take it and the gateway."""
    return {
        route.path: LeanRoute(route, bodies[route.path], route.endpoint)
        for route in routes
        if isinstance(route, APIRoute) and route.path in bodies and "POST" in (route.methods or ())
    }


class Lean:
    """Answers well-formed requests to `routes`; leaves everything else to `app`."""

    def __init__(self, app: ASGIApp, gateway: Gateway, routes: Mapping[str, LeanRoute]) -> None:
        self.app = app
        self._gateway = gateway
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None or not is_json(scope):
            return await self.app(scope, receive, send)
        scope["route"] = found.route
        try:
            read = await whole(receive)
        except HTTPException as exc:  # the body is too large, or late
            response = await on_http_error(Request(scope), exc)
            return await response(scope, receive, send)
        if read is None:
            return  # the client has gone
        try:
            body = found.body.__pydantic_validator__.validate_json(read)
        except ValidationError:
            return await self.app(scope, replayed(read, receive), send)
        try:
            response = await found.answer(body, self._gateway)
        except SearchbarError as exc:
            response = await on_searchbar_error(Request(scope), exc)
        except Exception as exc:
            response = await on_defect(Request(scope), exc)
        await response(scope, receive, send)


def is_json(scope: Scope) -> bool:
    """Whether the content type is JSON's and nothing else is said about it."""
    return any(name == b"content-type" and value == JSON for name, value in scope["headers"])


async def whole(receive: Receive) -> bytes | None:
    """The body, None when the client left before its end."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return bytes(message.get("body", b""))  # nearly always: one message
    parts = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    return None


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` again, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
