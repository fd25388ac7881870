"""Plain ASGI middleware: body limit, timing, tracing, response headers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.connections import LATE
from app.headers import HEADERS, complete
from app.problems import problem
from app.spans import Entered, Tracer
from app.telemetry import CLIENT_LEFT, Telemetry


class BodyLimit:
    """Answers 413 as soon as a body is known to exceed its limit, by its declared or its actual length, 408 when it is late.

    Args:
        max_bytes: the limit of all bodies …
        of_path: … but those sent to these paths, which have their own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, of_path: Mapping[str, int] | None = None) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.of_path = dict(of_path or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        max_bytes = self.of_path.get(scope["path"], self.max_bytes)
        detail = f"the body exceeds {max_bytes} bytes"
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > max_bytes:
            return await problem(413, "Too large", detail, {"Connection": "close"})(scope, receive, send)
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            if LATE in scope.get("state", ()):
                raise HTTPException(408, "the body did not come in time", {"Connection": "close"})
            received += len(message.get("body", b""))
            if received > max_bytes:
                # FastAPI makes a 400 of whatever else is raised while it reads a body.
                raise HTTPException(413, detail, {"Connection": "close"})
            return message

        await self.app(scope, limited, send)


class Measure:
    """Times each request under its route's template and adds the headers every answer carries."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, headers: list[tuple[bytes, bytes]] = HEADERS) -> None:
        self.app = app
        self.telemetry = telemetry
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = time.perf_counter()
        status = 500

        async def measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                complete(message, self.headers)
            await send(message)

        try:
            await self.app(scope, receive, measured)
        except asyncio.CancelledError:
            status = CLIENT_LEFT
            raise
        finally:
            if not scope.get("refused"):  # admission counts those: among the latencies they would flatter the worst moments
                route = getattr(scope.get("route"), "path", "unmatched")
                self.telemetry.answered(route, status, time.perf_counter() - started)


class Traced:
    """One span for each request to the API, within its caller's; every answer names it in `traceresponse`.

    The header is that of W3C's Trace Context level 2: the trace to look for when somebody shows you an answer.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app = app
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):  # probes and scrapes would drown the rest
            return await self.app(scope, receive, send)
        span = self.tracer.request(scope["method"], scope["path"], dict(scope["headers"]))
        if span is None:
            return await self.app(scope, receive, send)

        async def traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"traceresponse", span.traceparent.encode())]
                status = message["status"]
                span.note("http.response.status_code", status)
                if status >= 500:
                    span.fail(f"answered {status}")
                if route := getattr(scope.get("route"), "path", None):
                    span.note("http.route", route)
                    span.rename(f"{scope['method']} {route}")
            await send(message)

        with Entered(span):
            await self.app(scope, receive, traced)
