"""Triton over HTTP (KServe v2 with its binary tensors), by hand: one write a call, in the event loop's thread.

gRPC's Python client moves a call through four threads: for one embedding 0.25 ms of the gateway's processor time, here 0.07,
and 0.22 ms more of waiting (docs/adr/0033-lean-answers.md). What gRPC has besides (TLS, several servers under one name, taking
back a call that Triton has not begun) `triton_client.py` keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import orjson

from app.deadline import within
from app.errors import ModelFailed, ModelUnavailable, SearchbarError, SetupError
from app.inference import Array
from app.kserve import UNHEALTHY, failure, pack, unpack
from app.spans import span

SCHEME = "http://"
HEAD_LENGTH = b"inference-header-content-length"  # bytes of JSON at the beginning of a body; tensors follow
AWAY = frozenset((404, 499, 503))  # unknown model, cancelled by a server that stops, not ready
FULL = 429
CALL_S = 5.0  # for anything but an inference


class Answer(NamedTuple):
    """Of one exchange: the status, how many bytes of the body are JSON, and the body."""

    status: int
    head: int
    body: bytes


class Lost(Exception):
    """The connection ended before the answer was complete; `begun` tells whether some of it had come."""

    def __init__(self, why: str, begun: bool) -> None:
        super().__init__(why)
        self.begun = begun


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time.

    Attributes:
        usable: it may be asked once more.
    """

    def __init__(self) -> None:
        self.usable = True
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._begun = False
        self._head = -1
        self._body: list[bytes] = []

    async def ask(self, request: bytes) -> Answer:
        """The answer to `request`. A caller that is cancelled leaves a connection that is closed: its answer is nobody's.

        Raises:
            Lost: the server closed the connection, or what it sends is no HTTP.
        """
        if self._transport is None:
            raise Lost("closed", begun=False)
        self._waiting = asyncio.get_running_loop().create_future()
        self._begun, self._head, self._body = False, -1, []
        self._transport.write(request)
        try:
            return await self._waiting
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable, self._transport = False, None
        del self._parser  # it refers to this: whoever goes by reference counting needs no cycle collector (`garbage.py`)
        self._fail(Lost(f"connection lost: {exc or 'closed by the server'}", self._begun))

    def data_received(self, data: bytes) -> None:
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._fail(Lost(f"not HTTP: {exc}", begun=True))
            self.close()

    # The parser's

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == HEAD_LENGTH:
            self._head = int(value)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        answer = Answer(self._parser.get_status_code(), len(body) if self._head < 0 else self._head, body)
        if not self._parser.should_keep_alive():
            self.close()
        self._parser = httptools.HttpResponseParser(self)
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _fail(self, why: Lost) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(why)


class TritonHttp:
    """The Triton at one address; fulfils `inference.InferenceBackend`.

    Connections are kept, as many as there were calls at once. Calls that are given up close theirs: Triton finishes what it
    has begun, and nobody reads it.

    Args:
        url: ``http://HOST:PORT``.

    Attributes:
        on_unhealthy: told what Triton says when a backend stub of its own does not answer it any more.

    Raises:
        SetupError: it is no such URL.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise SetupError(f"a Triton reached by HTTP is http://HOST:PORT, and one with TLS HOST:PORT of its gRPC, not {url}")
        self.url = url
        self.on_unhealthy: Callable[[str], None] = lambda complaint: None
        self._host, self._port = parts.hostname, parts.port or 80
        self._lines = f"HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        self._idle: list[Connection] = []
        self._closed = False

    async def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, Array]:
        """See `InferenceBackend.infer`. Numeric tensors come back read-only: they are views of the response."""
        head, tensors = encode(inputs, outputs)
        lines = f"{self._lines}{HEAD_LENGTH.decode()}: {len(head)}\r\ncontent-length: {len(head) + len(tensors)}\r\n"
        with span(f"ModelInfer {model}", "client") as call:
            if call is not None:
                lines += f"traceparent: {call.traceparent}\r\n"
            request = f"POST /v2/models/{model}/infer {lines}\r\n".encode() + head + tensors
            try:
                answer = await within(self._exchange(request), timeout_s, f"{model}: no answer in time")
            except (OSError, Lost) as exc:
                raise ModelUnavailable(f"{model}: unavailable ({exc})") from exc
            if answer.status != 200:
                raise self._failed(model, answer)
            return decode(model, answer)

    async def greet(self) -> None:
        """Looks whether it is HTTP that is spoken there; a server that is away altogether is for later calls to say.

        Raises:
            SetupError: it is not; the message names the setting.
        """
        try:
            await self.get("/v2/health/live")
        except Lost as exc:
            if exc.begun:
                raise SetupError(
                    f"the server at {self.url} does not speak HTTP/1.1 ({exc}): for gRPC set SEARCHBAR_TRITON to HOST:PORT"
                ) from exc
        except (OSError, SearchbarError):
            pass

    async def ready(self, model: str) -> bool:
        try:
            return (await within(self.get(f"/v2/models/{model}/ready"), 1.0, "late")).status == 200
        except (OSError, Lost, SearchbarError):
            return False

    async def close(self) -> None:
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def get(self, path: str) -> Answer:
        """Anything but an inference.

        Raises:
            OSError, Lost: nobody is there, or does not stay until the answer is complete.
            DeadlineExceeded: there is none within 5 s.
        """
        return await within(self._exchange(f"GET {path} {self._lines}\r\n".encode()), CALL_S, "no answer in time")

    async def _exchange(self, request: bytes) -> Answer:
        """Send `request` on a connection that is idle or new. A kept one may have been closed meanwhile: then on the next."""
        while True:
            kept = self._take()
            connection = kept or await self._connect()
            try:
                answer = await connection.ask(request)
            except Lost as lost:
                if kept is None or lost.begun:
                    raise
                continue
            if connection.usable and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()
            return answer

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        return connection

    def _failed(self, model: str, answer: Answer) -> SearchbarError:
        try:
            details = str(orjson.loads(answer.body)["error"])
        except (ValueError, KeyError, TypeError):
            details = f"status {answer.status}"
        if UNHEALTHY in details:
            self.on_unhealthy(details)
        return failure(model, details, full=answer.status == FULL, away=answer.status in AWAY)


def encode(inputs: Mapping[str, Array], outputs: Sequence[str]) -> tuple[bytes, bytes]:
    """The JSON of an inference, and its tensors one after the other."""
    tensors: list[bytes] = []
    told = []
    for name, array in inputs.items():
        datatype, raw = pack(array)
        tensors.append(raw)
        size = {"binary_data_size": len(raw)}
        told.append({"name": name, "shape": array.shape, "datatype": datatype, "parameters": size})
    asked = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    return orjson.dumps({"inputs": told, "outputs": asked}), b"".join(tensors)


def decode(model: str, answer: Answer) -> dict[str, Array]:
    """The tensors of an answer by name.

    Raises:
        ModelFailed: it is none that Triton gives.
    """
    try:
        found, at = {}, answer.head
        for told in orjson.loads(answer.body[: answer.head])["outputs"]:
            size = told["parameters"]["binary_data_size"]
            found[told["name"]] = unpack(told["datatype"], tuple(told["shape"]), answer.body[at : at + size])
            at += size
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelFailed(f"{model}: an answer that is no inference ({exc!r})") from exc
    return found
