"""Plain ASGI middleware that refuses what admission does not let in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.admission import OF_PATH, Admission, Class
from app.connections import LATE, LET_IN
from app.headers import lines
from app.problems import OPENAI_PATH
from app.turns import Turns

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

    Whoever is let in counts as coming until their task has begun: of many that arrive in one turn of the event loop, those that
    find no room are refused in it, and not by tasks after all the others.

    Args:
        headers: of every answer.
    """

    def __init__(self, admission: Admission, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._admission = admission
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

    def let_in(self, path: str) -> bool:
        """See `connections.Door.let_in`: it has a place that nobody else may take.

        Not where there is none: an URL written otherwise than usual has not been refused, whatever its path is.
        """
        which = OF_PATH.get(path)
        if which is None or self._admission.full(which):
            return False
        self._admission.coming[which] += 1
        return True

    def came(self, path: str) -> None:
        """See `connections.Door.came`: it enters now, or when its body is there."""
        self._admission.coming[OF_PATH[path]] -= 1


class Admit:
    """Refuses what `admission` does not let in: 429 with `Retry-After` and a problem document.

    Nothing but a key is looked at before.

    A place is taken when the body is there: a client that sends slowly holds none. Whoever was let in at the door and has sent
    the whole body keeps the place, even if the limit has fallen since: a refusal that comes late is worth less than an answer.
    What has a place begins when it is its turn (`turns.py`).
    """

    def __init__(self, app: ASGIApp, admission: Admission, max_body_bytes: int) -> None:
        self.app = app
        self.admission = admission
        self.max_body_bytes = max_body_bytes
        self._turns = Turns(admission.limit.turned)
        self._refusals = {path: refusal(path) for path in OF_PATH}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        which = OF_PATH.get(scope["path"]) if scope["type"] == "http" else None
        if which is None:
            return await self.app(scope, receive, send)
        if scope["method"] == "POST":
            receive = await self._received(scope, receive)
        if not self.admission.enter(which, let_in=LET_IN in scope):
            scope["refused"] = True  # for whoever measures: it is counted here
            start, body = self._refusals[scope["path"]]
            await send(dict(start))  # whoever wraps `send` may change it
            return await send(body)
        try:
            await self._turns.begin()
            await self.app(scope, receive, send)
        finally:
            self.admission.leave(which)

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
