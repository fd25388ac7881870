"""Open- and closed-loop HTTP/1.1 load from one process, cheap enough to share two cores with what it measures.

Open loop (`drive`): requests are due at times fixed beforehand, whatever becomes of the earlier ones, and latency counts from
the moment a request was *due*. A server that stalls is charged for all who would have come meanwhile, which a closed loop
forgets (Gil Tene's "coordinated omission"; HdrHistogram's and wrk2's correction is not needed where arrivals do not wait).
Closed loop (`saturate`): so many callers, each sending its next request when it has its answer; for a server's limit.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

FAILED = 0  # the status of a request without an answer


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
        lines = [f"{'GET' if self.body is None else 'POST'} {self.path} HTTP/1.1", f"host: {host}", *self.headers]
        if self.body is not None:
            lines += ["content-type: application/json", f"content-length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + (self.body or b"")


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


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[int] | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._fail(f"not HTTP: {exc}")

    def on_message_complete(self) -> None:
        status, keep = self._parser.get_status_code(), self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        if not keep:
            self.close()
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._fail(f"connection lost: {exc or 'closed by the server'}")

    def send(self, data: bytes) -> asyncio.Future[int]:
        """The status of the answer to `data`; ConnectionError when there will be none."""
        self.answered = asyncio.get_running_loop().create_future()
        if self.transport is None:
            self._fail("connection lost")
        else:
            self.transport.write(data)
        return self.answered

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()
            self.transport = None

    def _fail(self, why: str) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(ConnectionError(why))


class Connections:
    """At most `most` connections to one server, opened as they are needed; callers wait for a free one in order."""

    def __init__(self, base_url: str, most: int) -> None:
        parts = urlsplit(base_url)
        self.host = parts.hostname or "127.0.0.1"
        self.port = parts.port or 80
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(most)

    async def ask(self, request: Request, due: float, timeout_s: float) -> Sample:
        """Send one request that was due at `due`; never raises, its sample tells."""
        async with self._free:
            sent = time.perf_counter()
            connection = None
            try:
                connection = self._held() or await asyncio.wait_for(self._open(), timeout_s)
                sent = time.perf_counter()
                status = await asyncio.wait_for(connection.send(request.encode(self.host)), timeout_s)
            except asyncio.TimeoutError:
                failure = f"no answer within {timeout_s:g} s"
            except OSError as exc:
                failure = str(exc)
            else:
                if connection.transport is not None:
                    self._idle.append(connection)
                return Sample(request.path, due, sent, time.perf_counter(), status)
            if connection is not None:
                connection.close()
            return Sample(request.path, due, sent, time.perf_counter(), FAILED, failure)

    def _held(self) -> Connection | None:
        """An open connection that is free; those that the server has closed meanwhile are forgotten."""
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    async def _open(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, self.host, self.port)
        return connection

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()


async def drive(
    base_url: str,
    requests: Iterable[Request],
    *,
    rate_per_s: float,
    duration_s: float,
    connections: int = 256,
    timeout_s: float = 5.0,
    seed: int | None = None,
    progress: Callable[[int], None] = lambda sent: None,
) -> list[Sample]:
    """Send requests at `rate_per_s` for `duration_s`, and wait for the last answers.

    Args:
        base_url: http://host:port.
        requests: as many as are due, at least; an iterable that ends early ends the run.
        connections: most connections open at once; a request that finds none free is late by its own fault, and is charged.
        seed: draws exponential pauses (a Poisson process); None sends at equal ones.
        progress: told how many were sent, ten times a second.
    """
    pool, loop = Connections(base_url, connections), asyncio.get_running_loop()
    tasks: set[asyncio.Task[Sample]] = set()
    samples: list[Sample] = []

    def finished(task: asyncio.Task[Sample]) -> None:
        tasks.discard(task)
        samples.append(task.result())

    told = start = time.perf_counter() + 0.05
    sent = 0
    source = iter(requests)
    for after in arrivals(rate_per_s, duration_s, seed):
        due = start + after
        while (wait := due - time.perf_counter()) > 0:  # noqa: ASYNC110 (a clock, not an event, is waited for)
            await asyncio.sleep(wait)
        request = next(source, None)
        if request is None:
            break
        task = loop.create_task(pool.ask(request, due, timeout_s))
        tasks.add(task)
        task.add_done_callback(finished)
        sent += 1
        if due - told >= 0.1:
            told = due
            progress(sent)
            await asyncio.sleep(0)  # a generator that has fallen behind still reads answers
    while tasks:
        await asyncio.wait(tasks)
    pool.close()
    progress(sent)
    return samples


async def saturate(
    base_url: str,
    requests: Iterable[Request],
    *,
    callers: int,
    duration_s: float,
    timeout_s: float = 5.0,
    progress: Callable[[int], None] = lambda sent: None,
) -> list[Sample]:
    """Let `callers` ask one request after the other for `duration_s`."""
    pool, source = Connections(base_url, callers), iter(requests)
    samples: list[Sample] = []
    until = time.perf_counter() + duration_s

    async def caller() -> None:
        while (now := time.perf_counter()) < until:
            request = next(source, None)
            if request is None:
                return
            samples.append(await pool.ask(request, now, timeout_s))
            if len(samples) % 100 == 0:
                progress(len(samples))

    await asyncio.gather(*(caller() for _ in range(callers)))
    pool.close()
    return samples


def arrivals(rate_per_s: float, duration_s: float, seed: int | None) -> Iterator[float]:
    """Seconds after the start at which requests are due."""
    if seed is None:
        yield from (number / rate_per_s for number in range(round(rate_per_s * duration_s)))
        return
    rng, after = random.Random(seed), 0.0
    while (after := after + rng.expovariate(rate_per_s)) < duration_s:
        yield after
