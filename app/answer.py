"""An answer of one piece in one write: its head and its body leave, and arrive, together.

uvicorn writes the head when it is told, the body when that comes: two system calls here, two packets, and a client that is
woken for the first of them and finds no answer yet (ADR 33).
"""

from __future__ import annotations

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

START, BODY = "http.response.start", "http.response.body"
UNBODIED = frozenset((204, 304))  # statuses whose answers have no body, whatever is said of its length
UVICORNS = frozenset((b"connection", b"transfer-encoding"))  # headers that change what becomes of the connection


class OneWrite:
    """The `send` of one request. What is not a plain answer of one piece is uvicorn's to write, as it came.

    Args:
        cycle: uvicorn's state of the request.
    """

    __slots__ = ("_cycle", "_start")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._start: Message | None = None  # held back until the body comes

    async def __call__(self, message: Message) -> None:
        start, kind = self._start, message["type"]
        if start is None:
            if kind == START and not self._cycle.response_started:
                self._start = message
                return
        else:
            self._start = None
            if kind == BODY and not message.get("more_body", False) and self._wrote(start, message.get("body", b"")):
                return
            await self._cycle.send(start)  # type: ignore[arg-type]
        await self._cycle.send(message)  # type: ignore[arg-type]

    def _wrote(self, start: Message, body: bytes) -> bool:
        """Whether this was an answer that can be written at once; then it is, or its client has gone."""
        cycle, status = self._cycle, start["status"]
        if cycle.disconnected:
            return True
        plain = cycle.keep_alive and not cycle.flow.write_paused and cycle.scope["method"] != "HEAD"
        if not plain or status < 200 or status in UNBODIED or cycle.access_log:
            return False
        head, length = [STATUS_LINE[status]], -1
        headers = [*cycle.default_headers, *start["headers"]]
        for name, value in headers:
            if name in UVICORNS:
                return False
            if name == b"content-length":
                length = int(value)
            head += (name, b": ", value, b"\r\n")
        head.append(b"\r\n")
        lines = b"".join(head)
        if length != len(body) or lines.count(b"\n") != len(headers) + 2:  # a line break in a header: uvicorn complains
            return False
        cycle.transport.write(lines + body)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        cycle.on_response()
        return True
