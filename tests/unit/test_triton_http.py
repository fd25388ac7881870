"""The way to Triton by HTTP, against servers that a test can make misbehave; the real one is in tests/integration."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import orjson
import pytest
from tritonclient.utils import deserialize_bytes_tensor

from app.errors import DeadlineExceeded, ModelFailed, ModelUnavailable, Overloaded, SearchbarError, SetupError
from app.inference import text_tensor
from app.stack import connected
from app.triton_client import TritonClient
from app.triton_http import TritonHttp

QUERY = {"QUERY": text_tensor([["halo", "beyoncé"], ["", "😀 \x00"]])}
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """One request: its first line, headers and body."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return lines[0], headers, await reader.readexactly(int(headers.get("content-length", "0")))


def answer(status: int, body: bytes, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers, "", ""]).encode() + body


def inference(embedding: np.ndarray) -> bytes:  # type: ignore[type-arg]
    """The answer to an inference as Triton gives it."""
    told = {"name": "EMBEDDING", "datatype": "FP32", "shape": embedding.shape}
    told["parameters"] = {"binary_data_size": embedding.nbytes}
    head = orjson.dumps({"model_name": "embedder", "outputs": [told]})
    return answer(200, head + embedding.tobytes(), f"Inference-Header-Content-Length: {len(head)}")


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[TritonHttp]:
    """A client of a server that treats each connection so."""
    tasks = []

    async def begun(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(begun, "127.0.0.1", 0)
    client = TritonHttp(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield client
    finally:
        await client.close()
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()


async def embed(client: TritonHttp, timeout_s: float = 10.0) -> np.ndarray:  # type: ignore[type-arg]
    return (await client.infer("embedder", QUERY, ["EMBEDDING"], timeout_s))["EMBEDDING"]


async def test_tensors_go_and_come_as_they_are() -> None:
    """The request is KServe's, texts in its layout; the answer keeps type, shape and values; one connection does for both."""
    expected = np.arange(8, dtype=np.float32).reshape(2, 4)
    asked: list[tuple[str, dict[str, str], bytes]] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            asked.append(await read(reader))
            reply = inference(expected)
            writer.write(reply[:40])  # in pieces, as a network may bring it
            await asyncio.sleep(0.01)
            writer.write(reply[40:])

    async with served(serve) as client:
        for _ in range(2):
            np.testing.assert_array_equal(await embed(client), expected)
    line, headers, body = asked[0]
    assert line == "POST /v2/models/embedder/infer HTTP/1.1"
    length = int(headers["inference-header-content-length"])
    told = orjson.loads(body[:length])
    assert told["outputs"] == [{"name": "EMBEDDING", "parameters": {"binary_data": True}}]
    assert told["inputs"][0]["shape"] == [2, 2] and told["inputs"][0]["datatype"] == "BYTES"
    assert told["inputs"][0]["parameters"]["binary_data_size"] == len(body) - length
    assert deserialize_bytes_tensor(body[length:]).tolist() == [item for row in QUERY["QUERY"] for item in row]
    assert connections == 1


@pytest.mark.parametrize(
    ("status", "details", "expected"),
    [
        pytest.param(503, "Exceeds maximum queue size", Overloaded, id="queue full"),
        pytest.param(429, "", Overloaded, id="too many"),
        pytest.param(400, "Request timeout expired", DeadlineExceeded, id="expired in the queue"),
        pytest.param(404, "Request for unknown model: 'embedder' is not found", ModelUnavailable, id="unknown model"),
        pytest.param(500, "Stub process 'embedder_0' is not healthy.", ModelUnavailable, id="dead stub"),
        pytest.param(400, "in ensemble 'embedder', model 'x' is not ready", ModelUnavailable, id="unready step"),
        pytest.param(500, "embedder: bad allocation", ModelFailed, id="the model's own error"),
        pytest.param(400, "unexpected shape", ModelFailed, id="wrong request"),
        pytest.param(500, None, ModelFailed, id="no details"),
    ],
)
async def test_statuses_become_errors(status: int, details: str | None, expected: type[SearchbarError]) -> None:
    """Each way of failing is one error of the tree, names the model, and leaves a connection that can be used."""
    body = b"<html>" if details is None else orjson.dumps({"error": details})
    unhealthy: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(answer(status, body))
        await read(reader)
        writer.write(inference(np.ones((1, 1), np.float32)))
        await asyncio.sleep(10)

    async with served(serve) as client:
        client.on_unhealthy = unhealthy.append
        with pytest.raises(expected, match=r"^embedder: ") as failed:
            await embed(client)
        assert type(failed.value) is expected
        assert (await embed(client)).tolist() == [[1.0]]
    assert unhealthy == ([details] if details and "not healthy" in details else [])


async def test_a_late_answer_is_nobodys() -> None:
    """A call that is late closes its connection: the next one does not get its answer."""
    late = np.full((1, 1), 1, np.float32)
    ended = asyncio.Event()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read(reader)
        if connections == 1:
            assert await reader.read() == b""
            ended.set()
        writer.write(inference(late * connections))

    async with served(serve) as client:
        with pytest.raises(DeadlineExceeded):
            await embed(client, timeout_s=0.05)
        assert (await embed(client)).tolist() == [[2.0]]
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    """A server that closes what is idle fails no call, though the client could not know before it sent."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read(reader)
        writer.write(inference(np.full((1, 1), connections, np.float32)))

    async with served(serve) as client:
        assert (await embed(client)).item() == 1.0
        [kept] = client._idle
        for _ in range(1000):
            if not kept.usable:
                break
            await asyncio.sleep(0.01)
        kept.usable = True  # as if its end had not been seen yet
        assert (await embed(client)).item() == 2.0


@pytest.mark.parametrize(
    "reply", [pytest.param(b"", id="nothing"), pytest.param(answer(200, b"{}" * 99)[:60], id="half an answer")]
)
async def test_a_server_that_hangs_up_is_unavailable(reply: bytes) -> None:
    """An answer that breaks off is an outage, and is not asked for again on the same call."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read(reader)
        writer.write(reply)

    async with served(serve) as client:
        with pytest.raises(ModelUnavailable, match="connection lost"):
            await embed(client)
        assert not await client.ready("embedder")
    assert connections == 2


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"outputs": 1}', id="other JSON"),
        pytest.param(b"[", id="no JSON"),
        pytest.param(
            b'{"outputs": [{"name": "EMBEDDING", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]}',
            id="no tensor",
        ),
    ],
)
async def test_an_answer_that_is_no_inference_is_the_models_failure(body: bytes) -> None:
    """Whatever comes with status 200 is looked at."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(answer(200, body))

    async with served(serve) as client:
        with pytest.raises(ModelFailed, match="no inference"):
            await embed(client)


async def test_calls_at_once_have_connections_of_their_own() -> None:
    """As many connections as calls under way, and no more afterwards."""
    connections, all_there = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 3:
            all_there.set()
        while True:
            await read(reader)
            await asyncio.wait_for(all_there.wait(), 10)
            writer.write(inference(np.ones((1, 1), np.float32)))

    async with served(serve) as client:
        for _ in range(2):
            await asyncio.gather(*(embed(client) for _ in range(3)))
    assert connections == 3


async def test_another_protocol_is_named_at_the_start() -> None:
    """A port of gRPC's answers with frames: the error says what to set. A server that is away is for later calls to say."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x18\x04\x00\x00\x00\x00\x00")  # an empty SETTINGS frame
        await reader.read()

    async with served(serve) as client:
        with pytest.raises(SetupError, match=re.escape("SEARCHBAR_TRITON to HOST:PORT")):
            await client.greet()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else can take it
        client = TritonHttp(f"http://127.0.0.1:{held.getsockname()[1]}")
        await client.greet()
        with pytest.raises(ModelUnavailable):
            await embed(client)
        assert await client.ready("embedder") is False
        await client.close()
        await client.close()


@pytest.mark.parametrize("url", ["http://", "http://host/v2", "http://host?x=1", "https://host:8000"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """Nothing of a URL is ignored, and none of these is taken for the name of a gRPC server."""
    with pytest.raises(SetupError, match="http://HOST:PORT"):
        connected(url)


async def test_the_scheme_decides_for_http() -> None:
    """`http://` is HTTP; what has no scheme is gRPC, as it always was."""
    over_http, over_grpc = connected("http://127.0.0.1:8000"), connected("127.0.0.1:8001")
    assert isinstance(over_http, TritonHttp) and isinstance(over_grpc, TritonClient)
    await over_grpc.close()
