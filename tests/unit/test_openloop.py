"""The load generator: what it sends, when, and what it says became of it; against a server of a few lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httptools
import pytest
import uvloop

from loadtest.connections import FAILED, Request, Sample
from loadtest.openloop import NAPPING_PER_S, drive, saturate

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
LAST = b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Server(asyncio.Protocol):
    """Answers every request by what `answer` says of its body; None closes the connection."""

    def __init__(self, seen: list[tuple[str, bytes]], answer: Callable[[bytes], bytes | None]) -> None:
        self._seen, self._answer = seen, answer
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._seen.append((f"{self._parser.get_method().decode()} {self._url.decode()}", self._body))
        answer = self._answer(self._body)
        if answer is not None:
            self._transport.write(answer)  # type: ignore[attr-defined]
        if answer is None or b"close" in answer:
            self._transport.close()


@asynccontextmanager
async def serving(seen: list[tuple[str, bytes]], answer: Callable[[bytes], bytes | None]) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(lambda: Server(seen, answer), "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def driven(
    rate_per_s: float, requests: list[Request], answer: Callable[[bytes], bytes | None] = lambda body: OK
) -> tuple[list[Sample], list[tuple[str, bytes]]]:
    """Samples of a run at `rate_per_s`, and what the server has seen."""
    seen: list[tuple[str, bytes]] = []

    async def run() -> list[Sample]:
        async with serving(seen, answer) as url:
            return await drive(url, requests, rate_per_s=rate_per_s, duration_s=len(requests) / rate_per_s, timeout_s=30)

    return uvloop.run(run()), seen


RATES = [pytest.param(NAPPING_PER_S / 4, id="woken"), pytest.param(NAPPING_PER_S * 4, id="napping")]


@pytest.mark.parametrize("rate", RATES)
def test_all_that_is_due_is_sent_when_it_is(rate: float) -> None:
    """Each request once, at equal pauses from the first, none before it is due, whether the generator naps or not."""
    requests = [Request("/v1/embed", b"%d" % number) for number in range(200)]
    samples, seen = driven(rate, requests)
    assert sorted(seen) == sorted(("POST /v1/embed", request.body) for request in requests)
    assert [sample.status for sample in samples] == [200] * 200
    due = sorted(sample.due for sample in samples)
    assert [at - due[0] for at in due] == pytest.approx([number / rate for number in range(200)])
    assert all(sample.due <= sample.sent <= sample.done for sample in samples)


@pytest.mark.parametrize("rate", RATES)
def test_every_request_has_its_own_fate(rate: float) -> None:
    """A refusal, a connection that the server closes after its answer or instead of one: the next request finds another."""
    answers = {b"0": OK, b"1": OK.replace(b"200 OK", b"503 No"), b"2": LAST, b"3": None}
    requests = [Request("/", b"%d" % (number % 4)) for number in range(80)]
    samples, seen = driven(rate, requests, answers.__getitem__)
    assert len(seen) == 80
    assert sorted(sample.status for sample in samples) == sorted([200, 503, 429, FAILED] * 20)
    assert all("connection lost" in sample.error for sample in samples if sample.status == FAILED)


def test_a_socket_s_file_instead_of_a_port(tmp_path: Path) -> None:
    """All go there, none to the URL; where nobody listens each request says so."""
    seen: list[tuple[str, bytes]] = []
    requests = [Request("/v1/embed", b"%d" % number) for number in range(50)]

    async def run(file: Path) -> list[Sample]:
        return await drive("http://127.0.0.1:1", requests, rate_per_s=5000, duration_s=1, timeout_s=30, socket=file)

    async def answered() -> list[Sample]:
        listening = asyncio.get_running_loop().create_unix_server(lambda: Server(seen, lambda body: OK), tmp_path / "a.sock")
        async with await listening:
            return await run(tmp_path / "a.sock")

    assert [sample.status for sample in uvloop.run(answered())] == [200] * 50 and len(seen) == 50
    failed = uvloop.run(run(tmp_path / "none.sock"))
    assert [sample.status for sample in failed] == [FAILED] * 50 and "No such file" in failed[0].error


def test_a_closed_loop_sends_one_after_the_other() -> None:
    """Each caller has one request under way at most."""
    seen: list[tuple[str, bytes]] = []

    async def run() -> list[Sample]:
        async with serving(seen, lambda body: OK) as url:
            return await saturate(
                url, [Request(f"/v1/suggest?q={n}") for n in range(60)], callers=3, duration_s=60, timeout_s=30
            )

    samples = sorted(uvloop.run(run()), key=lambda sample: sample.sent)
    assert sorted(request for request, _ in seen) == sorted(f"GET /v1/suggest?q={n}" for n in range(60))
    for at, sample in enumerate(samples):
        assert sum(other.done > sample.sent for other in samples[:at]) < 3
