"""Requests over keep-alive HTTP/1.1 connections, and what became of them: no task, future or timer of its own for any."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

FAILED = 0  # the status of a request without an answer
SWEEP_S = 0.1  # between two looks for requests past their time
LENGTH = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"  # the last lines of a request with a body


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Args:
        path: with its query string.
        body: JSON, sent by POST; None sends a GET.
        headers: lines to add, each ``name: value``.
    """

    path: str
    body: bytes | None = None
    headers: tuple[str, ...] = ()

    def encode(self, host: str) -> bytes:
        if self.body is None:
            return head("GET", self.path, host, self.headers) + b"\r\n"
        return head("POST", self.path, host, self.headers) + LENGTH % len(self.body) + self.body


@lru_cache(maxsize=1024)
def head(method: str, path: str, host: str, headers: tuple[str, ...]) -> bytes:
    """The lines of a request that are the same for many."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", f"host: {host}", *headers, "")).encode()


class Sample(NamedTuple):
    """What became of one request; times in seconds of `time.perf_counter`.

    Attributes:
        status: of the answer; `FAILED` when there was none.
        error: why there was none.
    """

    path: str
    due: float
    sent: float
    done: float
    status: int
    error: str = ""

    @property
    def latency_ms(self) -> float:
        """From when it was due: what its caller waited."""
        return (self.done - self.due) * 1000

    @property
    def service_ms(self) -> float:
        """From when it was sent: what the server took."""
        return (self.done - self.sent) * 1000


class Asked(NamedTuple):
    """A request, when it was due, and who is told what became of it."""

    request: Request
    due: float
    done: Callable[[Sample], None]


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, pool: Connections) -> None:
        self.asked: Asked | None = None
        self.sent = 0.0
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    @property
    def lost(self) -> bool:
        return self._transport is None

    def send(self, asked: Asked) -> None:
        self.asked, self.sent = asked, time.perf_counter()
        if self._transport is None:
            self.end(FAILED, "connection lost")
        else:
            self._transport.write(asked.request.encode(self._pool.host))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self.end(FAILED, f"not HTTP: {exc}")

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        self.end(status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.end(FAILED, f"connection lost: {exc or 'closed by the server'}")

    def end(self, status: int, error: str = "") -> None:
        """Tell what became of the request under way, if there is one, and be free for the next or gone."""
        asked, self.asked = self.asked, None
        if status == FAILED:
            self.close()
        if asked is not None:
            sample = Sample(asked.request.path, asked.due, self.sent, time.perf_counter(), status, error)
            self._pool.release(self, usable=not self.lost)
            asked.done(sample)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None


class Connections:
    """At most `most` connections to one server, opened as they are needed; requests wait for a free one in order."""

    def __init__(self, base_url: str, most: int, timeout_s: float, socket: Path | None = None) -> None:
        parts = urlsplit(base_url)
        self.host = parts.hostname or "127.0.0.1"
        self.port = parts.port or 80
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._free = most  # connections that may be opened yet
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._waiting: deque[Asked] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._sweep = self._loop.call_later(SWEEP_S, self._end_the_late)

    async def open(self, count: int) -> None:
        """Open so many beforehand, as clients have them that were there before; one that fails is for a request to find out."""

        async def one() -> None:
            with suppress(OSError, asyncio.TimeoutError):
                connection = await self._connected()
                self._free -= 1
                self._idle.append(connection)

        await asyncio.gather(*(one() for _ in range(min(count, self._free))))

    def ask(self, request: Request, due: float, done: Callable[[Sample], None]) -> None:
        """Send `request`, which was due at `due`; `done` gets its sample, whatever happens."""
        self._send(Asked(request, due, done))

    def _send(self, asked: Asked) -> None:
        while self._idle and self._idle[-1].lost:  # the server closes what is idle for long
            self._idle.pop()
            self._free += 1
        if self._idle:
            connection = self._idle.pop()
            self._busy.add(connection)
            connection.send(asked)
        elif self._free:
            self._free -= 1
            task = self._loop.create_task(self._open(asked))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._waiting.append(asked)

    async def _connected(self) -> Connection:
        """Raises OSError or asyncio.TimeoutError."""
        if self._socket is None:
            opening = self._loop.create_connection(lambda: Connection(self), self.host, self.port)
            return (await asyncio.wait_for(opening, self._timeout_s))[1]
        by_file = self._loop.create_unix_connection(lambda: Connection(self), str(self._socket))
        return (await asyncio.wait_for(by_file, self._timeout_s))[1]

    async def _open(self, asked: Asked) -> None:
        began = time.perf_counter()
        try:
            connection = await self._connected()
        except (OSError, asyncio.TimeoutError) as exc:
            self._free += 1
            failure = f"no answer within {self._timeout_s:g} s" if isinstance(exc, asyncio.TimeoutError) else str(exc)
            asked.done(Sample(asked.request.path, asked.due, began, time.perf_counter(), FAILED, failure))
            self._serve_the_next()
        else:
            self._busy.add(connection)
            connection.send(asked)

    def release(self, connection: Connection, usable: bool) -> None:
        """`connection` has ended its request."""
        self._busy.discard(connection)
        if usable:
            self._idle.append(connection)
        else:
            self._free += 1
        self._serve_the_next()

    def _serve_the_next(self) -> None:
        if self._waiting and (self._idle or self._free):
            self._send(self._waiting.popleft())

    def _end_the_late(self) -> None:
        oldest = time.perf_counter() - self._timeout_s
        for connection in [connection for connection in self._busy if connection.sent < oldest]:
            connection.end(FAILED, f"no answer within {self._timeout_s:g} s")
        self._sweep = self._loop.call_later(SWEEP_S, self._end_the_late)

    def close(self) -> None:
        self._sweep.cancel()
        for connection in self._idle:
            connection.close()
        self._idle.clear()
