"""A Unix-domain socket beside the TCP port, as a proxy on the same machine asks by."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
from pathlib import Path

import pytest
import trustme

from app.adaptive_limit import AdaptiveLimit
from app.admission import BULK, INTERACTIVE, Admission
from app.admit import AtTheDoor
from app.connections import Limits
from app.errors import SetupError
from app.fakes import FakeTriton
from app.gateway import Gateway
from app.headers import HEADERS
from app.listening import listen_at
from tests.api.served import eventually, post, serving

LIVEZ = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "searchbar.sock"


class TestAsked:
    """What comes by it is answered as what comes by TCP."""

    async def test_both_ways_have_one_server(self, gateway: Gateway, file: Path) -> None:
        """The same answers, several on one connection, counted together."""
        with listen_at(file) as beside:
            async with serving(gateway, Limits(), beside=beside) as served:
                answers = []
                for way in (None, file):
                    async with served.client(way) as client:
                        for query in ("halo", "smels like teen sprit"):
                            await client.send(post("/v1/spellcheck", {"query": query}))
                            status, headers, body = await client.answer()
                            answers.append((status, headers["content-type"], json.loads(body)["results"]))
                assert answers[:2] == answers[2:] and [status for status, *_ in answers] == [200] * 4
                assert await served.counted('searchbar_request_seconds_count{route="/v1/spellcheck",status="200"} 4.0')

    async def test_it_speaks_no_tls(self, gateway: Gateway, file: Path) -> None:
        """A proxy that ends TLS asks in plain HTTP, also where the port speaks HTTPS."""
        pem = file.with_name("server.pem")
        trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
        with listen_at(file) as beside:
            async with serving(gateway, Limits(), tls=pem, beside=beside) as served, served.client(file) as client:
                await client.send(LIVEZ)
                assert (await client.answer())[0] == 200

    async def test_who_is_too_many_is_refused(self, gateway: Gateway, file: Path) -> None:
        """At the door, and the connection goes on."""
        gateway.admission = full = Admission(AdaptiveLimit(1, 1))
        assert full.enter(BULK)
        with listen_at(file) as beside:
            async with serving(gateway, Limits(), beside=beside) as served, served.client(file) as client:
                served.server.shared.door = AtTheDoor(full, HEADERS)
                await client.send(post("/v1/embed", {"query": "halo"}))
                status, headers, _ = await client.answer()
                assert (status, headers["retry-after"]) == (429, "1")
                full.leave(BULK)
                await client.send(post("/v1/embed", {"query": "halo"}))
                assert (await client.answer())[0] == 200
        assert full.in_flight == {INTERACTIVE: 0, BULK: 0}

    async def test_who_leaves_is_not_worked_for(self, gateway: Gateway, triton: FakeTriton, file: Path) -> None:
        triton.latency_s["speller"] = 15.0
        with listen_at(file) as beside:
            async with serving(gateway, Limits(), beside=beside) as served:
                async with served.client(file) as client:
                    await client.send(post("/v1/spellcheck", {"query": "halp"}))
                    assert await eventually(lambda: len(triton.calls) == 1)
                assert await eventually(lambda: triton.cancelled == ["speller"])


class TestTheFile:
    """Who may connect, and what is left."""

    def test_its_owner_and_group_may_connect(self, file: Path) -> None:
        """Nobody else, whatever the umask is; nothing is left at the end."""
        with listen_at(file):
            assert stat.S_IMODE(file.stat().st_mode) == 0o660
        assert not file.exists()

    def test_what_a_killed_server_left_is_replaced(self, file: Path) -> None:
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(file))
            killed.listen()
        assert file.exists()
        with listen_at(file), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(file))

    def test_another_server_is_left_alone(self, file: Path) -> None:
        """Also while its models are loading, and nobody accepts yet."""
        with listen_at(file):
            with pytest.raises(SetupError, match="another server has it"), listen_at(file):
                pass
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(file))

    def test_a_file_is_no_socket(self, file: Path) -> None:
        """What has the name and is none stays."""
        file.write_text("mine")
        with pytest.raises(SetupError, match="no socket"), listen_at(file):
            pass
        assert file.read_text() == "mine"

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            pytest.param("nowhere/searchbar.sock", "No such file or directory", id="folder missing"),
            pytest.param("x" * 200, "too long", id="too long for the kernel"),
        ],
    )
    def test_a_path_that_cannot_be(self, tmp_path: Path, path: str, said: str) -> None:
        with pytest.raises(SetupError, match=f"{said}.*SEARCHBAR_SOCKET"), listen_at(tmp_path / path):
            pass

    def test_a_successor_s_is_not_removed(self, file: Path) -> None:
        """Somebody removed the file and another server made its own: that stays."""
        with listen_at(file):
            file.unlink()
            other = socket.socket(socket.AF_UNIX)
            other.bind(str(file))
        assert file.exists()
        other.close()


async def test_who_connects_in_the_last_moment_is_answered(gateway: Gateway, file: Path) -> None:
    """Connections that nobody had accepted when listening ends; after them nobody is let in, whoever has made the file."""
    came: list[socket.socket] = []

    def ask(connection: socket.socket) -> bytes:
        with connection:
            connection.sendall(LIVEZ)
            return connection.recv(4096).partition(b"\r\n")[0]

    with listen_at(file) as beside:
        async with serving(gateway, Limits(), beside=beside) as served:
            accept_the_last = served.server._accept_the_last

            async def come_and_accept() -> None:
                for _ in range(5):
                    came.append(socket.socket(socket.AF_UNIX))
                    came[-1].settimeout(10)
                    came[-1].connect(str(file))
                await accept_the_last()
                with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
                    late.connect(str(file))

            served.server._accept_the_last = come_and_accept  # type: ignore[method-assign]
            served.server.handle_exit(signal.SIGINT, None)
            assert await eventually(lambda: len(came) == 5)
            answers = await asyncio.gather(*(asyncio.to_thread(ask, connection) for connection in came))
    assert set(answers) == {b"HTTP/1.1 200 OK"} and len(answers) == 5
