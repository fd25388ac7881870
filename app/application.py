"""FastAPI with our middleware before its machinery instead of after it.

FastAPI and Starlette put what they need themselves (the answer to defects, limits on forms, telemetry of their own) around
every middleware that is added, so that each request passes it, whoever answers. Here it is around the routers alone: an answer
that a middleware gives, such as `lean.Lean`'s, costs none of it (ADR 33). It follows that a middleware sees the answer to
a defect too, and that what one of them raises itself is the server's to answer.
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

TRUSTED = "FORWARDED_ALLOW_IPS"  # uvicorn's own variable: whose X-Forwarded-* headers are believed


class Application(FastAPI):
    """See the module. FastAPI's own telemetry is left out: traces are `middleware.Traced`'s, metrics `middleware.Measure`'s."""

    def build_middleware_stack(self) -> ASGIApp:
        """See `FastAPI.build_middleware_stack`."""
        around, self.user_middleware = self.user_middleware, []
        machinery = super().build_middleware_stack()
        self.user_middleware = around
        app: ASGIApp = ProxyHeadersMiddleware(machinery, os.environ.get(TRUSTED, "127.0.0.1"))  # type: ignore[assignment, arg-type]
        for middleware in reversed(around):
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)
