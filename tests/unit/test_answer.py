"""One write an answer: what leaves is what uvicorn would have written, and what is not plain is left to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from app.answer import OneWrite

START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"4")],
}
BODY: Message = {"type": "http.response.body", "body": b"halo"}


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Flow:
    write_paused = False


class Cycle:
    """What `OneWrite` sees of uvicorn's cycle; what it is told itself it keeps."""

    def __init__(self, method: str = "GET") -> None:
        self.scope = {"method": method}
        self.transport, self.flow = Transport(), Flow()
        self.default_headers = [(b"date", b"today")]
        self.message_event = asyncio.Event()
        self.disconnected = self.access_log = self.waiting_for_100_continue = False
        self.keep_alive = True
        self.response_started = self.response_complete = False
        self.responses = 0
        self.told: list[Message] = []

    def on_response(self) -> None:
        self.responses += 1

    async def send(self, message: Message) -> None:
        self.told.append(message)
        self.response_started = True


async def sent(cycle: Cycle, *messages: Message) -> Cycle:
    send = OneWrite(cycle)  # type: ignore[arg-type]
    for message in messages:
        await send(message)
    return cycle


async def test_an_answer_of_one_piece_is_one_write() -> None:
    """Head and body together, the server's own headers first; the cycle is over."""
    cycle = await sent(Cycle(), START, BODY)
    assert cycle.transport.written == [
        b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nhalo"
    ]
    assert cycle.response_started and cycle.response_complete and cycle.message_event.is_set()
    assert cycle.responses == 1 and not cycle.told


def with_header(name: bytes, value: bytes) -> Message:
    return {**START, "headers": [*START["headers"], (name, value)]}


@pytest.mark.parametrize(
    ("start", "body", "change"),
    [
        pytest.param(START, {**BODY, "more_body": True}, {}, id="in pieces"),
        pytest.param(START, BODY, {"scope": {"method": "HEAD"}}, id="HEAD"),
        pytest.param(START, BODY, {"keep_alive": False}, id="last of its connection"),
        pytest.param({**START, "status": 304}, BODY, {}, id="no body by its status"),
        pytest.param({**START, "headers": []}, BODY, {}, id="of unknown length"),
        pytest.param(START, {**BODY, "body": b"hal"}, {}, id="of another length"),
        pytest.param(with_header(b"connection", b"close"), BODY, {}, id="closing"),
        pytest.param(with_header(b"transfer-encoding", b"chunked"), BODY, {}, id="chunked"),
        pytest.param(with_header(b"x-name", b"a\r\nset-cookie: b"), BODY, {}, id="two headers in one"),
        pytest.param(START, BODY, {"access_log": True}, id="logged"),
    ],
)
async def test_what_is_not_plain_is_uvicorns(start: Message, body: Message, change: dict[str, Any]) -> None:
    """Both messages as they came, in order, and nothing written beside them."""
    cycle = Cycle()
    for name, value in change.items():
        setattr(cycle, name, value)
    await sent(cycle, start, body)
    assert cycle.told == [start, body]
    assert not cycle.transport.written and not cycle.responses


async def test_a_client_that_does_not_read_is_waited_for() -> None:
    """While the transport's buffer is full the answer is uvicorn's, which waits until it is not."""
    cycle = Cycle()
    cycle.flow.write_paused = True
    assert (await sent(cycle, START, BODY)).told == [START, BODY]


async def test_nothing_is_written_to_a_client_that_left() -> None:
    """Neither by us nor by uvicorn, which would only find out the same."""
    cycle = Cycle()
    cycle.disconnected = True
    await sent(cycle, START, BODY)
    assert not cycle.transport.written and not cycle.told
