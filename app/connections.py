"""What one connection may cost: no work for a client that has left, a limit on its headers and on the time it sends a request.

uvicorn leaves these to a proxy in front. Its protocol is extended rather than the application, because only it sees a
connection end without a task that waits for that in each request, and headers before they make a request
(docs/adr/0021-connections.md).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

from fastapi import Response
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.answer import OneWrite
from app.headers import lines
from app.problems import problem

log = logging.getLogger("searchbar.http")

CHANGES = {"PUT", "PATCH", "DELETE"}  # what they have begun they finish, whether or not their client waits for it
LATE = "late"  # key of a request's state, set when the time for its body is over
LET_IN = "let_in"  # key of a scope, set where a place is kept for the request and all of it is there
MIN_BYTES_PER_S = 1024  # of a body: so much more time has a long one (the rule of Apache's mod_reqtimeout)
REFUSED_S = 1.0  # that a connection stays which was refused, or will be: closed sooner, the reset could overtake the answer


@dataclass(frozen=True, slots=True)
class Limits:
    """Of each connection, and of all.

    Attributes:
        receive_s: time for a request's headers, from its first byte or from when the connection was opened, and again for its
            body, which has a second more for each `MIN_BYTES_PER_S` that have come.
        max_header_bytes: of a request's URL and headers together.
        max_connections: open at once; those over it are told to come again.
    """

    receive_s: float = 10.0
    max_header_bytes: int = 16 * 1024
    max_connections: int = 2048


class Door(Protocol):
    def refusal(self, url: bytes) -> bytes | None:
        """What follows the status line 429 and the date where a request to `url` is refused now; None where it is let in."""

    def let_in(self, path: str) -> bool:
        """A request to `path` was not refused, and will have a task: whether a place is kept for it."""

    def came(self, path: str) -> None:
        """The task of a request to `path` for which a place is kept has begun."""


class Answered:
    """In place of uvicorn's cycle of a request that has none: what is still to come of it is read and dropped."""

    response_started = response_complete = True
    message_event = asyncio.Event()  # nobody waits for it


class Connections:
    """What the connections of one server share.

    Attributes:
        draining: answers close their connection from now on.
        on_refused: told why, each time a connection is closed without the application being asked: limit, headers or idle.
        door: who refuses requests before there is a task for them; nobody when not set.
    """

    def __init__(self, limits: Limits, on_refused: Callable[[str], None] = lambda reason: None) -> None:
        self.limits = limits
        self.on_refused = on_refused
        self.door: Door | None = None
        self.draining = False
        self._dated: tuple[Sequence[tuple[bytes, bytes]], bytes] = ((), b"")

    def refused_head(self, default_headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """How every refusal at the door begins; the headers, with the date, are another list once a second."""
        if self._dated[0] is not default_headers:
            self._dated = default_headers, STATUS_LINE[429] + lines(default_headers)
        return self._dated[1]

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """The protocol factory that uvicorn asks for."""
        return Connection(self, config, server_state, app_state, _loop)


class Connection(HttpToolsProtocol):
    """One client's connection."""

    def __init__(
        self,
        shared: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared = shared
        self._active: RequestResponseCycle | None = None
        self._task: asyncio.Task[Any] | None = None  # of the active request; None when it may not be cancelled
        self._door: Door | None = None  # that let in the request whose task is to be made
        self._idle: float | None = None  # since when nothing is under way; None otherwise, and before a first request
        self._since: float | None = None  # when the client began to send what it now sends; None while nothing is due from it
        self._in_headers = True  # of the request that is being received, or of the next one
        self._received = 0  # bytes of these headers or of this body
        self._arriving = 0  # bytes that are being read
        self._large = False  # whether the headers may be over the limit
        self._late = False
        self._crowded = False
        self._refused = False

    # What comes in

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._crowded = len(self.connections) > self._shared.limits.max_connections
        self._since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        in_headers, self._arriving = self._in_headers, len(data)
        super().data_received(data)
        if self._since is None:  # the request is complete
            return
        self._received += len(data)
        if in_headers and self._in_headers and self._received > self._shared.limits.max_header_bytes:
            self._refuse(self._too_large(), "headers")

    def on_message_begin(self) -> None:
        """See `HttpToolsProtocol.on_message_begin`; the scope is made when it is needed."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._since, self._received, self._idle = self.loop.time(), 0, None

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._large = self._received + self._arriving > self._shared.limits.max_header_bytes
        self._since, self._received = self.loop.time(), 0
        door = self._shared.door if self._plain() else None
        if door is not None and (refusal := door.refusal(self.url)) is not None:
            return self._turn_away(refusal)
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        self._door = door
        super().on_headers_complete()
        self._door = None

    def _plain(self) -> bool:
        """Whether the request may be refused before it has a task: nothing else is to be said to it, or before."""
        special = self._crowded or self._large or self._shared.draining or self.expect_100_continue
        if special or not (self.cycle is None or self.cycle.response_complete):
            return False
        return self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1" and not self.parser.should_upgrade()

    def on_message_complete(self) -> None:
        self._in_headers, self._since = True, None
        super().on_message_complete()

    # What is done with it

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        door = self._door
        if self._shared.draining:
            cycle.keep_alive = False
        if self._crowded:
            app = self._too_many()
            self._shared.on_refused("limit")
        elif self._large and header_bytes(cycle.scope) > self._shared.limits.max_header_bytes:
            app = self._too_large()
            self._shared.on_refused("headers")
        elif door is not None and not door.let_in(cycle.scope["path"]):
            door = None
        self._active, self._late = cycle, False
        super()._start_asgi_task(cycle, partial(self._serve, cycle, app, door))

    def _turn_away(self, refusal: bytes) -> None:
        """Answer 429 without a scope, a cycle and a task."""
        self.transport.write(self._shared.refused_head(self.server_state.default_headers) + refusal)
        self.cycle = cast(RequestResponseCycle, Answered)
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """See `HttpToolsProtocol.on_response_complete`; no timer: `check` closes what is idle for long."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            self._idle = self.loop.time()

    async def _serve(
        self, cycle: RequestResponseCycle, app: Any, door: Door | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """The application for one request: not begun, and no defect of it, when the client has gone."""
        changes = scope["method"] in CHANGES
        if not changes:
            self._task = asyncio.current_task()
        try:
            if door is not None:
                door.came(scope["path"])
                if not cycle.more_body:
                    scope[LET_IN] = True
            if changes or not cycle.disconnected:
                await app(scope, receive, OneWrite(cycle))
        except asyncio.CancelledError:
            if not cycle.disconnected and not cycle.response_started:  # the server stops and has waited for long
                stopped = problem(503, "Stopping", "the server was stopped", {"Retry-After": "1", "Connection": "close"})
                await stopped(scope, receive, send)
        finally:
            self._task = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._since = None
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True  # uvicorn tells the last request of a pipeline alone
            if self._task is not None:
                self._task.cancel()

    def check(self, now: float) -> None:
        """End what takes too long; called every now and then with the time of the event loop."""
        if self._since is None:
            if self._idle is not None and now - self._idle > self.timeout_keep_alive:
                self.transport.close()
            return
        if self.flow.read_paused:  # the server is busy, not the client slow
            self._since = now
            return
        allowed_s = REFUSED_S if self._crowded or self._refused else self._shared.limits.receive_s
        if not self._in_headers:
            allowed_s += self._received / MIN_BYTES_PER_S
        if now - self._since <= allowed_s:
            return
        self._since = now
        if self._refused or (not self._in_headers and (self._late or self.cycle.response_started)):
            self.transport.close()
        elif self._in_headers:
            self._refuse_slow()
        else:  # the application finds out where it reads the body, and answers
            self._late = self.cycle.scope["state"][LATE] = True
            self.cycle.message_event.set()

    def shutdown(self) -> None:
        """Called when the server stops: a connection without a request ends now, any other after its answer."""
        arriving = self._since is not None and self._in_headers and self._received
        if not arriving and not unread(self.transport):
            super().shutdown()

    # Answers without the application

    def send_400_response(self, msg: str) -> None:
        """See `HttpToolsProtocol.send_400_response`; as a problem document."""
        self._refuse(problem(400, "Bad request", msg), None)

    def _refuse_slow(self) -> None:
        if self._received:
            detail = f"the headers did not come within {self._shared.limits.receive_s:g} s"
            self._refuse(problem(408, "Request timeout", detail), "slow")
        else:  # nothing was asked, nothing is answered
            self._since = None
            self._shared.on_refused("idle")
            self.transport.close()

    def _too_large(self) -> Response:
        detail = f"the headers exceed {self._shared.limits.max_header_bytes} bytes"
        return problem(431, "Headers too large", detail, {"Connection": "close"})

    def _too_many(self) -> Response:
        detail = f"{self._shared.limits.max_connections} connections are open"
        return problem(429, "Overloaded", detail, {"Connection": "close", "Retry-After": "1"})

    def _refuse(self, response: Response, reason: str | None) -> None:
        """Answer a request that has no task, because its headers are not complete, and listen to nothing more."""
        if reason:
            self._shared.on_refused(reason)
        if self.transport.is_closing():
            return
        if self._active is not None and not self._active.response_complete:  # the bytes would land in another answer
            self.transport.close()
            return
        headers = [*self.server_state.default_headers, *response.raw_headers]
        head = lines(header for header in headers if header[0] != b"connection") + b"connection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[response.status_code] + head + bytes(response.body))
        self.transport.write_eof()
        self._refused, self._in_headers, self._since = True, True, self.loop.time()


def header_bytes(scope: Mapping[str, Any]) -> int:
    """Length of a request's URL and headers."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["raw_path"]) + len(scope["query_string"])


def unread(transport: asyncio.Transport) -> int:
    """Bytes that the kernel holds for us."""
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return 0
    held: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))[0]
    return held
