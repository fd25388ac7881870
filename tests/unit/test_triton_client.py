"""The border to Triton: the wire layout of tensors, and the table from gRPC's statuses to the service's errors."""

from __future__ import annotations

import socket
import time

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from app.errors import DeadlineExceeded, ModelFailed, ModelUnavailable, Overloaded, SearchbarError
from app.inference import text_tensor
from app.kserve import pack_text, unpack
from app.triton_client import TritonClient, translate

Code = grpc.StatusCode
TEXTS = [["halo", "beyoncé"], ["", "😀 \x00"]]


def test_text_packs_as_tritons_own_client_packs_it() -> None:
    """The BYTES layout is byte for byte that of tritonclient, empty and multi-byte texts included."""
    tensor = text_tensor(TEXTS)
    packed = pack_text(tensor)
    assert packed == serialize_byte_tensor(tensor).item()
    assert deserialize_bytes_tensor(packed).tolist() == [text.encode() for row in TEXTS for text in row]


def test_text_survives_the_wire() -> None:
    """Unpacking what was packed gives the same bytes in the same shape."""
    tensor = text_tensor(TEXTS)
    back = unpack("BYTES", tensor.shape, pack_text(tensor))
    assert back.dtype == np.object_
    assert back.shape == (2, 2)
    assert back.tolist() == tensor.tolist()


def test_short_rows_are_filled_with_empty_texts() -> None:
    """Rows of unequal length become one tensor."""
    assert text_tensor([["a", "b"], ["c"]]).tolist() == [[b"a", b"b"], [b"c", b""]]


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        pytest.param("FP32", np.array([[0.5, -np.inf]], np.float32), id="float32"),
        pytest.param("INT32", np.array([[1], [2]], np.int32), id="int32"),
        pytest.param("INT64", np.zeros((0, 3), np.int64), id="empty"),
        pytest.param("BOOL", np.array([True, False]), id="bool"),
    ],
)
def test_numbers_survive_the_wire(datatype: str, array: np.ndarray) -> None:  # type: ignore[type-arg]
    """Numeric tensors keep type, shape and values."""
    back = unpack(datatype, array.shape, array.tobytes())
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        pytest.param(Code.UNAVAILABLE, "failed to connect to all addresses", ModelUnavailable, id="server down"),
        pytest.param(Code.UNAVAILABLE, "Exceeds maximum queue size", Overloaded, id="queue full"),
        pytest.param(Code.RESOURCE_EXHAUSTED, "", Overloaded, id="resources exhausted"),
        pytest.param(Code.UNAVAILABLE, "Request timeout expired", DeadlineExceeded, id="expired in the queue"),
        pytest.param(Code.DEADLINE_EXCEEDED, "Deadline Exceeded", DeadlineExceeded, id="client deadline"),
        pytest.param(Code.NOT_FOUND, "Request for unknown model", ModelUnavailable, id="unknown model"),
        pytest.param(Code.CANCELLED, "", ModelUnavailable, id="server shuts down"),
        pytest.param(Code.INTERNAL, "Stub process 'speller_generate_0' is not healthy.", ModelUnavailable, id="dead stub"),
        pytest.param(
            Code.INVALID_ARGUMENT, "in ensemble 'speller', model 'x' is not ready", ModelUnavailable, id="unready step"
        ),
        pytest.param(Code.INTERNAL, "speller_generate: bad allocation", ModelFailed, id="the model's own error"),
        pytest.param(Code.INVALID_ARGUMENT, "unexpected shape", ModelFailed, id="wrong request"),
        pytest.param(Code.UNKNOWN, None, ModelFailed, id="no details"),
    ],
)
def test_statuses_become_errors(code: grpc.StatusCode, details: str | None, expected: type[SearchbarError]) -> None:
    """Each way of failing is one error of the tree, and names the model."""
    none = grpc.aio.Metadata()
    found = translate(grpc.aio.AioRpcError(code, none, none, details=details), "speller")
    assert type(found) is expected
    assert str(found).startswith("speller: ")


async def test_nobody_listening_is_unavailable() -> None:
    """A real channel to a port where nothing listens says so as ModelUnavailable, and no model is ready there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else can take it
        client = TritonClient(f"127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(ModelUnavailable):
            await client.infer("embedder", {"QUERY": text_tensor([["x"]])}, ["EMBEDDING"], timeout_s=10.0)
        assert await client.ready("embedder") is False
        await client.close()
        await client.close()


class Counting(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """A server that says that every model is ready, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def ModelReady(self, request: object, context: object) -> object:  # noqa: N802 - the protocol's name
        self.asked += 1
        return service_pb2.ModelReadyResponse(ready=True)


async def test_several_servers_share_the_calls() -> None:
    """Calls go round the addresses of a name; when one of the servers leaves, the others answer them all."""
    counting = [Counting(), Counting()]
    servers, ports = [], []
    for servicer in counting:
        server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    client = TritonClient("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports))
    try:
        deadline = time.monotonic() + 30
        while not all(server.asked for server in counting) and time.monotonic() < deadline:  # until both connections stand
            assert await client.ready("speller")
        before = [server.asked for server in counting]
        for _ in range(10):
            assert await client.ready("speller")
        assert [server.asked - asked for server, asked in zip(counting, before, strict=True)] == [5, 5]
        await servers[0].stop(None)
        answers = [await client.ready("speller") for _ in range(10)]
        assert sum(answers) >= 9  # one call may have been on its way
    finally:
        await client.close()
        for server in servers:
            await server.stop(None)
