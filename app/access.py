"""Who may ask: API keys with a rate each, and which other origins' pages may call.

Plain ASGI middleware. With keys on, everything needs one but what is named here: probes, the page's files, the description
of the API, and the catalogue's routes, which ask for the admin key themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Forbidden, KeyMissing, RateExceeded, SearchbarError
from app.headers import answer_headers
from app.keys import KeyRing
from app.problems import openai_error, problem_of
from app.settings import Settings

OPEN = frozenset(("/", "/livez", "/readyz", "/docs", "/openapi.json"))
OPEN_BELOW = ("/page/", "/v1/catalogue/")
HEADER_OF = {b"authorization": b"bearer ", b"x-api-key": b""}  # what precedes the key in each
MISSING = "send an API key: `Authorization: Bearer KEY` or `X-API-Key: KEY`"


@dataclass(frozen=True, slots=True)
class Access:
    """How the application is guarded; by default anyone may ask, and no other origin's page.

    Attributes:
        keys: those who may ask; None asks nobody for a key.
        origins: whose pages may call from browsers, e.g. ``https://music.example``.
        https: TLS ends at this server.
    """

    keys: KeyRing | None = None
    origins: tuple[str, ...] = ()
    https: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """Raises SetupError when the key file cannot be read."""
        keys = KeyRing(settings.api_keys) if settings.api_keys else None
        return cls(keys, settings.cors_origins or (), settings.tls_cert is not None)

    def guard(self, app: FastAPI) -> None:
        """Adds what is asked before a body is read: the origin first, for a preflight brings no key, then the key."""
        if self.keys is not None:
            app.add_middleware(KeyNeeded, ring=self.keys)
        if self.origins:
            app.add_middleware(
                CORSMiddleware,
                allow_origins=self.origins,
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type", "X-API-Key", "traceparent"],
                expose_headers=["Retry-After", "Server-Timing", "traceresponse"],
            )

    @property
    def open(self) -> bool:
        """Nobody is asked for a key or for where a page comes from."""
        return self.keys is None and not self.origins

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Of every answer."""
        return answer_headers(self.https)


class KeyNeeded:
    """Lets a request pass whose key is in the ring and within its rate: one digest, one look-up, one bucket."""

    def __init__(self, app: ASGIApp, ring: KeyRing) -> None:
        self.app = app
        self.ring = ring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path not in OPEN and not path.startswith(OPEN_BELOW):
            try:
                self.admit(scope["headers"])
            except SearchbarError as exc:
                more = openai_error(Request(scope), str(exc), None, "invalid_request_error")
                return await problem_of(exc, **more)(scope, receive, send)
        await self.app(scope, receive, send)

    def admit(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Takes a request of the sender's key.

        Raises:
            KeyMissing: none was sent.
            Forbidden: this one is unknown, or has been revoked.
            RateExceeded: it is over its rate.
        """
        token = sent_key(headers)
        if not token:
            raise KeyMissing(MISSING)
        known, bucket = self.ring.bucket(token)
        if not known:
            raise Forbidden("this is not an API key of this server")
        if bucket is not None and (wait_s := bucket.take()) > 0:
            raise RateExceeded(f"this key is over its rate: try again in {math.ceil(wait_s)} s", math.ceil(wait_s))


def sent_key(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The first key among the headers; empty when there is none."""
    for name, value in headers:
        before = HEADER_OF.get(name)
        if before is not None and value[: len(before)].lower() == before and (token := value[len(before) :].strip()):
            return token
    return b""


BEARER = {"type": "http", "scheme": "bearer"}
SCHEMES = {
    "apiKey": {**BEARER, "description": "an API key"},
    "apiKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same"},
    "adminKey": {**BEARER, "description": "the admin key, for the catalogue's routes"},
}


def describe(schema: dict[str, Any], keys: bool) -> dict[str, Any]:
    """The OpenAPI document with what each route asks for, and the answers to whoever lacks it.

    Args:
        schema: as FastAPI makes it; changed in place.
        keys: API keys are asked for.
    """
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    needed = {"401": "No API key was sent", "403": "The key is unknown or revoked"}
    for path, operations in schema["paths"].items():
        admin = path.startswith("/v1/catalogue/")
        if not admin and (not keys or path in OPEN):
            continue
        for operation in operations.values():
            operation["security"] = [{"adminKey": []}] if admin else [{"apiKey": []}, {"apiKeyHeader": []}]
            if not admin:
                missing = {code: {"description": text, "content": problem} for code, text in needed.items()}
                operation["responses"] = {**missing, **operation["responses"]}
    used: Mapping[str, Any] = SCHEMES if keys else {"adminKey": SCHEMES["adminKey"]}
    schema.setdefault("components", {})["securitySchemes"] = dict(used)
    return schema
