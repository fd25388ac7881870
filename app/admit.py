"""Plain ASGI middleware that refuses what admission does not let in."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.admission import OF_PATH, Admission, Class
from app.connections import LATE
from app.headers import lines
from app.problems import OPENAI_PATH

AT_ONCE = 8  # requests that begin in one turn of the event loop (docs/adr/0019-admission.md)
DETAIL = "more requests are in flight than are useful"


def refusal(path: str) -> tuple[Message, Message]:
    """The two messages of a refusal of `path`, made beforehand: a refusal must cost next to nothing."""
    body = {"type": "about:blank", "title": "Overloaded", "status": 429, "detail": DETAIL}
    if path == OPENAI_PATH:
        body["error"] = {"message": DETAIL, "type": "server_error", "param": None}
    content = orjson.dumps(body)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(content)).encode()),
        (b"retry-after", b"1"),
    ]
    return {"type": "http.response.start", "status": 429, "headers": headers}, {"type": "http.response.body", "body": content}


class AtTheDoor:
    """The refusal of `Admit` for connections to give at once, before there is a task for the request.

    Only for servers where nothing else has a say before admission: no keys, no other origins, no traces.

    Whoever is let in counts as coming until they begin: of many that arrive in one turn of the event loop, those that find no
    room are refused in it, and not by tasks after all the others. `AT_ONCE` of them begin in a turn, the others in the next
    ones: a turn takes as long as those that it answers, many of them from a cache, and whoever comes meanwhile waits for its
    end, even to be refused.

    Args:
        headers: of every answer.
    """

    def __init__(self, admission: Admission, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._admission = admission
        self._begun = 0  # in this turn of the event loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._answers: dict[bytes, tuple[Class, bytes]] = {}
        for path, which in OF_PATH.items():
            start, body = refusal(path)
            self._answers[path.encode()] = which, lines((*start["headers"], *headers)) + b"\r\n" + body["body"]

    def refusal(self, url: bytes) -> bytes | None:
        """See `connections.Door.refusal`; refusals are counted. An URL written otherwise than usual is left to `Admit`."""
        found = self._answers.get(url) or self._answers.get(url.partition(b"?")[0])
        if found is None or not self._admission.full(found[0]):
            return None
        self._admission.refuse(found[0])
        return found[1]

    def let_in(self, path: str) -> None:
        """See `connections.Door.let_in`: it has a place that nobody else may take."""
        if which := OF_PATH.get(path):
            self._admission.coming[which] += 1

    async def begin(self, path: str) -> None:
        """See `connections.Door.begin`: it enters then, or when its body is there."""
        if which := OF_PATH.get(path):
            try:
                await self._turn()
            finally:
                self._admission.coming[which] -= 1

    async def _turn(self) -> None:
        """Wait while as many as may have begun in this turn of the event loop."""
        loop = asyncio.get_running_loop()
        if self._begun >= AT_ONCE:
            since = time.perf_counter()
            self._waiting.append(loop.create_future())
            await self._waiting[-1]
            return self._admission.limit.turned(time.perf_counter() - since, 1)
        if not self._begun:
            loop.call_soon(self._next_turn, loop)
        self._begun += 1

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun = 0
        while self._waiting and self._begun < AT_ONCE:
            if not (waiter := self._waiting.popleft()).done():  # its client may have gone
                waiter.set_result(None)
                self._begun += 1
        if self._begun:
            loop.call_soon(self._next_turn, loop)


class Admit:
    """Refuses what `admission` does not let in: 429 with `Retry-After` and a problem document.

    Nothing but a key is looked at before.

    A place is taken when the body is there: a client that sends slowly holds none.
    """

    def __init__(self, app: ASGIApp, admission: Admission, max_body_bytes: int) -> None:
        self.app = app
        self.admission = admission
        self.max_body_bytes = max_body_bytes
        self._admitted = 0  # in this turn of the event loop
        self._refusals = {path: refusal(path) for path in OF_PATH}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        which = OF_PATH.get(scope["path"]) if scope["type"] == "http" else None
        if which is None:
            return await self.app(scope, receive, send)
        if scope["method"] == "POST":
            receive = await self._received(scope, receive)
        if not self.admission.enter(which):
            scope["refused"] = True  # for whoever measures: it is counted here
            start, body = self._refusals[scope["path"]]
            await send(dict(start))  # whoever wraps `send` may change it
            return await send(body)
        if not self._admitted:
            asyncio.get_running_loop().call_soon(self._turned, time.perf_counter())
        self._admitted += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.admission.leave(which)

    def _turned(self, since: float) -> None:
        admitted, self._admitted = self._admitted, 0
        self.admission.limit.turned(time.perf_counter() - since, admitted)

    async def _received(self, scope: Scope, receive: Receive) -> Receive:
        """Wait for the body, as far as it may be long; whoever calls what is returned gets it again.

        A body that will be refused for its declared length or because its time is over is not waited for.
        """
        messages, size, more = deque[Message](), 0, True
        while more and size <= self.max_body_bytes:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            more = message.get("more_body", False) and not (LATE in scope.get("state", ()) or self._declared_too_long(scope))

        async def again() -> Message:
            return messages.popleft() if messages else await receive()

        return again

    def _declared_too_long(self, scope: Scope) -> bool:
        declared = dict(scope["headers"]).get(b"content-length", b"")
        return declared.isdigit() and int(declared) > self.max_body_bytes
