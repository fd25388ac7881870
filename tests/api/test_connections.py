"""What clients do to their connections: leave, dribble, flood, stay; over real sockets, with fakes behind the routes."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
import uvloop

from app.adaptive_limit import AdaptiveLimit
from app.admission import BULK, INTERACTIVE, Admission
from app.admit import AtTheDoor
from app.api import create_app
from app.catalogue import LiveCatalogue
from app.completion import Completions
from app.connections import Limits
from app.fakes import FakeIndex, FakeTriton
from app.gateway import Gateway
from app.headers import HEADERS
from app.lexicon import Lexicon
from app.listening import listen
from app.server import AT_ONCE, Server
from app.settings import Settings
from tests.api.served import KEY, Served, eventually, post, serving

FOREVER_S = 15.0
SHORT_S = 0.4


@pytest.fixture
async def patient(gateway: Gateway) -> AsyncIterator[Served]:
    async with serving(gateway, Limits()) as served:
        yield served


@pytest.fixture
async def strict(gateway: Gateway) -> AsyncIterator[Served]:
    async with serving(gateway, Limits(receive_s=SHORT_S, max_header_bytes=1024, max_connections=3)) as served:
        yield served


class TestLeaving:
    """Clients that do not wait."""

    @pytest.mark.parametrize(
        ("path", "models"),
        [
            pytest.param("/v1/spellcheck", {"speller"}, id="spellcheck"),
            pytest.param("/v1/embed", {"embedder"}, id="embed"),
            pytest.param("/v1/search", {"speller", "embedder"}, id="search"),
        ],
    )
    async def test_nobody_works_for_a_client_that_left(
        self, patient: Served, triton: FakeTriton, path: str, models: set[str]
    ) -> None:
        """The calls to its models are cancelled at once, and it is counted as 499, not as an error."""
        triton.latency_s = {"speller": FOREVER_S, "embedder": FOREVER_S}
        async with patient.client() as client:
            await client.send(post(path, {"query": "halp"}))
            assert await eventually(lambda: {call.model for call in triton.calls} == models)
        assert await eventually(lambda: set(triton.cancelled) == models)
        assert await patient.counted(f'searchbar_request_seconds_count{{route="{path}",status="499"}} 1.0')
        assert b'status="500"' not in patient.server._gateway.telemetry.render()
        assert patient.server._gateway.telemetry.window.quantiles(path) == {}

    async def test_a_shared_call_goes_on_for_the_others(self, patient: Served, triton: FakeTriton) -> None:
        """Two ask the same and one leaves: the other has its answer, from one call."""
        triton.latency_s["speller"] = 0.3
        async with patient.client() as stays:
            async with patient.client() as leaves:
                await leaves.send(post("/v1/spellcheck", {"query": "halp"}))
                assert await eventually(lambda: triton.calls != [])
                await stays.send(post("/v1/spellcheck", {"query": "halp"}))
                await asyncio.sleep(0.05)
            status, _, _ = await stays.answer()
        assert (status, len(triton.calls), triton.cancelled) == (200, 1, [])

    async def test_a_change_is_finished(self, patient: Served, gateway: Gateway, index: FakeIndex, triton: FakeTriton) -> None:
        """A bulk that was sent whole is written whole, though its client left before the answer."""
        gateway.catalogue = LiveCatalogue(index, gateway.embedder, gateway.speller, gateway.completions)
        triton.latency_s["embedder"] = 0.2
        rows = b'{"id": "new", "title": "Zorblax"}\n'
        head = "PUT /v1/catalogue/items HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
        async with patient.client() as client:
            await client.send(f"{head}authorization: Bearer {KEY}\r\ncontent-length: {len(rows)}\r\n\r\n".encode() + rows)
            assert await eventually(lambda: triton.calls != [])
        assert await patient.counted('searchbar_request_seconds_count{route="/v1/catalogue/items",status="200"} 1.0')
        assert [item.title for item in await index.get(["new"])] == ["Zorblax"]

    async def test_a_pipeline_left_is_cancelled(self, patient: Served, triton: FakeTriton) -> None:
        """Of several requests sent at once the first is under way; it ends, the others are never begun."""
        triton.latency_s["speller"] = FOREVER_S
        async with patient.client() as client:
            await client.send(post("/v1/spellcheck", {"query": "halp"}) + post("/v1/embed", {"query": "halp"}))
            assert await eventually(lambda: triton.calls != [])
        assert await eventually(lambda: triton.cancelled == ["speller"])
        await asyncio.sleep(0.05)
        assert [call.model for call in triton.calls] == ["speller"]


class TestSlow:
    """Clients that send little by little."""

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(b"G", id="one byte"),
            pytest.param(b"GET / HTTP/1.1\r\nhost: x\r\n", id="no end"),
            pytest.param(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /li", id="the second request"),
        ],
    )
    async def test_headers_that_do_not_end_are_408(self, strict: Served, sent: bytes) -> None:
        """They are told so as a problem document, and the connection ends."""
        async with strict.client() as client:
            await client.send(sent)
            status, headers, body = await client.answer()
            if status == 200:
                status, headers, body = await client.answer()
            assert (status, headers["content-type"], headers["connection"]) == (408, "application/problem+json", "close")
            assert json.loads(body)["status"] == 408
            assert await client.ended()
        assert await strict.counted('searchbar_connections_refused_total{reason="slow"} 1.0')

    async def test_dribbling_headers_gain_no_time(self, strict: Served) -> None:
        """A byte now and then does not keep a connection open."""
        async with strict.client() as client:
            await client.send(b"GET / HTTP/1.1\r\nx: ")

            async def dribble() -> None:
                while True:
                    await client.send(b"y")
                    await asyncio.sleep(0.05)

            dribbling = asyncio.create_task(dribble())
            status, _, _ = await client.answer()
            dribbling.cancel()
            await asyncio.gather(dribbling, return_exceptions=True)
        assert status == 408

    async def test_silence_is_closed(self, strict: Served) -> None:
        """A connection on which nothing is asked ends without an answer."""
        async with strict.client() as client:
            assert await client.ended()
        assert await strict.counted('searchbar_connections_refused_total{reason="idle"} 1.0')

    @pytest.mark.parametrize("refused", [False, True])
    async def test_who_asks_no_more_is_closed(self, gateway: Gateway, refused: bool) -> None:
        """After a while, which begins anew with every answer."""
        gateway.admission = full = Admission(AdaptiveLimit(1, 1))
        async with serving(gateway, Limits()) as served:
            served.server.config.timeout_keep_alive = 1
            if refused:
                served.server.shared.door = AtTheDoor(full, HEADERS)
                assert full.enter(BULK)
            async with served.client() as client:
                for pause_s in (0.7, 0.7, 0.0):
                    await client.send(post("/v1/embed", {"query": "halo"}))
                    assert (await client.answer())[0] == (429 if refused else 200)
                    await asyncio.sleep(pause_s)
                assert await client.ended()

    @pytest.mark.parametrize("path", ["/v1/spellcheck", "/v1/catalogue/items"])
    async def test_a_body_that_does_not_end_is_408(self, strict: Served, gateway: Gateway, index: FakeIndex, path: str) -> None:
        """It is counted under its route, and the connection ends."""
        gateway.catalogue = LiveCatalogue(index, gateway.embedder, gateway.speller, gateway.completions)
        kind = "application/x-ndjson" if "items" in path else "application/json"
        head = f"{'PUT' if 'items' in path else 'POST'} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n"
        async with strict.client() as client:
            await client.send(f'{head}authorization: Bearer {KEY}\r\ncontent-length: 99\r\n\r\n{{"query'.encode())
            status, headers, body = await client.answer()
            assert (status, headers["connection"], json.loads(body)["title"]) == (408, "close", "Request timeout")
            assert await client.ended()
        assert await strict.counted(f'searchbar_request_seconds_count{{route="{path}",status="408"}} 1.0')

    async def test_a_body_nobody_reads_holds_no_connection(self, strict: Served) -> None:
        """An answer that did not need the body does not keep the rest of it coming for ever."""
        async with strict.client() as client:
            await client.send(b"GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n.")
            assert (await client.answer())[0] == 200
            assert await client.ended()

    async def test_a_long_body_has_more_time(self, strict: Served) -> None:
        """Whoever sends faster than a kilobyte a second is not cut off by the limit."""
        request = post("/v1/spellcheck", {"query": "halp", "pad": "x" * 3000})
        async with strict.client() as client:
            for at in range(0, len(request), 400):
                await client.send(request[at : at + 400])
                await asyncio.sleep(0.1)
            status, _, _ = await client.answer()
        assert status == 422  # `pad` is no field: it was read whole


class TestLarge:
    """Clients that send too much, or come in crowds."""

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param("GET /livez HTTP/1.1\r\nhost: x\r\nx: " + "y" * 1100 + "\r\n\r\n", id="one header"),
            pytest.param("GET /livez HTTP/1.1\r\nhost: x\r\n" + "x: y\r\n" * 600 + "\r\n", id="many headers"),
            pytest.param("GET /livez HTTP/1.1\r\nhost: x\r\nx: " + "y" * 1100, id="no end"),
            pytest.param("GET /livez?" + "y" * 1100 + " HTTP/1.1\r\nhost: x\r\n\r\n", id="the URL"),
        ],
    )
    async def test_headers_over_the_limit_are_431(self, strict: Served, head: str) -> None:
        """Whether or not they ever end, and however they are cut into packets."""
        for step in (len(head), 500):
            async with strict.client() as client:
                for at in range(0, len(head), step):
                    await client.send(head[at : at + step].encode())
                    await asyncio.sleep(0.01)
                status, headers, _ = await client.answer()
                assert (status, headers["content-type"], headers["connection"]) == (431, "application/problem+json", "close")
                assert await client.ended()

    async def test_a_body_over_the_limit_is_413(self, patient: Served) -> None:
        """Declared or not, it is not read to its end."""
        for framing in ("content-length: 9999999", "transfer-encoding: chunked"):
            async with patient.client() as client:
                head = f"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"
                chunk = b"%x\r\n%s\r\n" % (70_000, b" " * 70_000) if "chunked" in framing else b" " * 1000
                await client.send(head.encode() + chunk)
                status, headers, _ = await client.answer()
                assert (status, headers["connection"]) == (413, "close")

    async def test_what_is_not_http_is_400(self, patient: Served) -> None:
        """A problem document like any other."""
        async with patient.client() as client:
            await client.send(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
            status, headers, body = await client.answer()
            assert (status, headers["content-type"], json.loads(body)["status"]) == (400, "application/problem+json", 400)
            assert await client.ended()

    async def test_connections_over_the_limit_are_told_to_come_again(self, gateway: Gateway) -> None:
        """429 with `Retry-After` for as long as the others stay, and those are served."""
        async with serving(gateway, Limits(max_connections=2)) as served:
            async with served.client() as first, served.client() as second:
                for client in (first, second):
                    await client.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
                    assert (await client.answer())[0] == 200
                status, headers, _ = await served.ask("/livez")
                assert (status, headers["retry-after"], headers["connection"]) == (429, "1", "close")
                await first.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
                assert (await first.answer())[0] == 200
            assert await eventually(lambda: not served.server.server_state.connections)
            assert (await served.ask("/livez"))[0] == 200


def hammer(port: int) -> list[bytes]:
    """Status lines of request after request, each on a connection of its own, until one is refused."""
    answers = []
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            return answers
        with connection:
            try:
                connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
                answers.append(connection.recv(4096).partition(b"\r\n")[0])
            except ConnectionError as exc:
                answers.append(repr(exc).encode())


class TestStopping:
    """SIGTERM and SIGINT."""

    async def test_sigterm_is_told_before_it_is_felt(self, gateway: Gateway) -> None:
        """While it drains, /readyz says no, all else is answered, and each answer closes its connection."""
        async with serving(gateway, Limits(), drain_s=FOREVER_S) as served:
            assert (await served.ask("/readyz"))[0] == 200
            served.server.handle_exit(signal.SIGTERM, None)
            status, headers, body = await served.ask("/readyz")
            assert (status, headers["retry-after"], b"about to stop" in body) == (503, "1", True)
            async with served.client() as client:
                await client.send(post("/v1/search", {"query": "halo"}))
                status, headers, _ = await client.answer()
                assert (status, headers["connection"]) == (200, "close")
                assert await client.ended()
            assert not served.task.done()

    async def test_nothing_that_was_sent_is_dropped(self, gateway: Gateway, triton: FakeTriton) -> None:
        """Under way, just sent on an open connection, newly connected: all are answered; idle connections are closed."""
        triton.latency_s["speller"] = 0.3
        async with serving(gateway, Limits(), drain_s=0.2) as served:
            hammers = [asyncio.create_task(asyncio.to_thread(hammer, served.port)) for _ in range(3)]
            async with served.client() as busy, served.client() as idle, served.client() as late:
                await idle.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
                assert (await idle.answer())[0] == 200
                served.server.handle_exit(signal.SIGTERM, None)
                await asyncio.sleep(0.15)
                await busy.send(post("/v1/spellcheck", {"query": "halp"}))
                assert await eventually(lambda: served.server.should_exit)
                await late.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
                assert [(await client.answer())[0] for client in (busy, late)] == [200, 200]
                assert await idle.ended()
            answers = [answer for hammered in await asyncio.gather(*hammers) for answer in hammered]
            assert len(answers) > 50 and set(answers) == {b"HTTP/1.1 200 OK"}
            await asyncio.wait_for(served.task, 15)

    @pytest.mark.parametrize("secure", [False, True])
    async def test_who_connects_in_the_last_moment_is_answered(self, gateway: Gateway, tmp_path: Path, secure: bool) -> None:
        """Connections that nobody had accepted when listening ends, by TLS where that is spoken."""
        ca, pem = trustme.CA(), tmp_path / "server.pem"
        ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
        context = ssl.create_default_context()
        ca.configure_trust(context)
        came: list[socket.socket] = []

        def ask(connection: socket.socket) -> bytes:
            with connection, context.wrap_socket(connection, server_hostname="127.0.0.1") if secure else connection as asked:
                asked.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
                return asked.recv(4096).partition(b"\r\n")[0]

        async with serving(gateway, Limits(), tls=pem if secure else None) as served:
            accept_the_last = served.server._accept_the_last

            async def come_and_accept() -> None:
                came.extend(socket.create_connection(("127.0.0.1", served.port), 10) for _ in range(5))
                await accept_the_last()

            served.server._accept_the_last = come_and_accept  # type: ignore[method-assign]
            served.server.handle_exit(signal.SIGINT, None)
            assert await eventually(lambda: came != [])
            answers = await asyncio.gather(*(asyncio.to_thread(ask, connection) for connection in came))
        assert set(answers) == {b"HTTP/1.1 200 OK"} and len(answers) == 5

    async def test_patience_ends(self, gateway: Gateway, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever is still not answered after the grace is told so: 503, not 500."""
        monkeypatch.setattr("app.server.GRACE_S", 1)
        triton.latency_s["speller"] = FOREVER_S
        async with serving(gateway, Limits()) as served, served.client() as client:
            await client.send(post("/v1/spellcheck", {"query": "halp"}))
            assert await eventually(lambda: triton.calls != [])
            served.server.handle_exit(signal.SIGTERM, None)
            status, headers, _ = await client.answer()
            assert (status, headers["retry-after"]) == (503, "1")


class TestOverloaded:
    """Refusals at the door are those of the application, and leave the connection as it was."""

    @pytest.mark.parametrize("path", ["/v1/embed", "/v1/search", "/v1/embeddings"])
    async def test_the_answer_is_the_application_s(self, gateway: Gateway, path: str) -> None:
        """Status, headers and body are the same with and without the short way; both are counted."""
        gateway.admission = full = Admission(AdaptiveLimit(1, 1))
        assert all(full.enter(which) for which in (BULK, INTERACTIVE))
        answers = []
        for short in (False, True):
            async with serving(gateway, Limits()) as served, served.client() as client:
                if short:
                    served.server.shared.door = AtTheDoor(full, HEADERS)
                await client.send(post(path, {"query": "halo"}))
                status, headers, body = await client.answer()
                answers.append((status, {name: value for name, value in headers.items() if name != "date"}, body))
                assert headers["date"]
        assert answers[0] == answers[1] and answers[0][0] == 429 and answers[0][1]["retry-after"] == "1"
        assert sum(full.refused.values()) == 2

    async def test_the_connection_goes_on(self, gateway: Gateway) -> None:
        """A body that comes after the refusal is no request; what follows is answered, a pipeline in its order."""
        gateway.admission = full = Admission(AdaptiveLimit(1, 1))
        async with serving(gateway, Limits()) as served, served.client() as client:
            served.server.shared.door = AtTheDoor(full, HEADERS)
            assert full.enter(BULK)
            request = post("/v1/embed", {"query": "halo"})
            await client.send(request[:-5])
            assert (await client.answer())[0] == 429
            await client.send(request[-5:] + b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n" + request + request)
            assert [(await client.answer())[0] for _ in range(3)] == [200, 429, 429]
            full.leave(BULK)
            await client.send(request)
            assert (await client.answer())[0] == 200
        assert full.in_flight == {INTERACTIVE: 0, BULK: 0} and full.refused[BULK] == 3

    async def test_who_closes_is_closed(self, gateway: Gateway) -> None:
        """A client that wants its connection closed is refused by the application, which closes it."""
        gateway.admission = full = Admission(AdaptiveLimit(1, 1))
        assert full.enter(BULK)
        async with serving(gateway, Limits()) as served, served.client() as client:
            served.server.shared.door = AtTheDoor(full, HEADERS)
            await client.send(post("/v1/embed", {"query": "halo"}, "connection: close\r\n"))
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (429, "close") and await client.ended()

    async def test_no_spelling_of_an_url_gets_past(self, gateway: Gateway) -> None:
        """What the door does not know by its URL is refused by its path."""
        gateway.admission = full = Admission(AdaptiveLimit(1, 1))
        assert full.enter(BULK)
        async with serving(gateway, Limits()) as served, served.client() as client:
            served.server.shared.door = AtTheDoor(full, HEADERS)
            await client.send(post("/v1/%65mbed", {"query": "halo"}))
            assert (await client.answer())[0] == 429
        assert full.coming == {INTERACTIVE: 0, BULK: 0} and full.refused[BULK] == 1

    @pytest.mark.parametrize(("late", "status"), [(0, 200), (5, 429)])
    async def test_a_place_is_kept_for_who_is_all_there(self, gateway: Gateway, late: int, status: int) -> None:
        """Let in, and the limit falls: who has sent everything is answered, who has not is as anybody else."""
        gateway.admission = falling = Admission(AdaptiveLimit(1, 1))

        class Falls(AtTheDoor):
            def came(self, path: str) -> None:
                super().came(path)
                falling.limit.limit = 0
                falling.in_flight[BULK] += 1

        async with serving(gateway, Limits()) as served, served.client() as client:
            served.server.shared.door = Falls(falling, HEADERS)
            request = post("/v1/embed", {"query": "halo"})
            await client.send(request[: len(request) - late])
            assert await eventually(lambda: falling.in_flight[BULK] >= 1)
            await client.send(request[len(request) - late :])
            assert (await client.answer())[0] == status

    async def test_many_at_once_find_no_more_room_than_there_is(self, gateway: Gateway) -> None:
        """Of what arrives in one turn of the event loop, all beyond the limit is refused at the door; none counts as coming."""
        gateway.admission = few = Admission(AdaptiveLimit(2, 2))
        door = AtTheDoor(few, HEADERS)
        let_in = []
        for _ in range(5):
            let_in.append(door.refusal(b"/v1/embed") is None)
            if let_in[-1]:
                door.let_in("/v1/embed")
        assert let_in == [True, True, False, False, False]
        for _ in range(2):
            door.came("/v1/embed")
        async with serving(gateway, Limits()) as served:
            served.server.shared.door = door
            for _ in range(3):  # places that were taken are free again
                async with served.client() as client:
                    await client.send(post("/v1/embed", {"query": "halo"}))
                    assert (await client.answer())[0] == 200
        assert few.coming == few.in_flight == {INTERACTIVE: 0, BULK: 0} and few.refused[BULK] == 3


def test_many_connections_are_accepted_in_few_turns(settings: Settings, triton: FakeTriton, index: FakeIndex) -> None:
    """What comes at once is heard at once: a busy server's turns are long, and who is not accepted is not even refused."""
    came = 4 * AT_ONCE

    async def turns(cleanup: ExitStack) -> int:
        """Of the event loop, until all who came at once are accepted."""
        sock = cleanup.enter_context(listen("127.0.0.1", 0))
        gateway = Gateway.build(settings, triton, index, Lexicon(index.rows), Completions(index.rows))
        server = Server(create_app(gateway), gateway, Limits())
        task = asyncio.create_task(server.serve(sockets=[sock]))
        for _ in range(500):
            if server.started:
                break
            await asyncio.sleep(0.01)
        for _ in range(came):
            cleanup.enter_context(socket.create_connection(sock.getsockname()))
        taken = 0
        while len(server.server_state.connections) < came and taken < came:
            await asyncio.sleep(0)
            taken += 1
        server.should_exit = True
        await task
        await gateway.close()
        return taken

    with ExitStack() as cleanup:
        assert uvloop.run(turns(cleanup)) < came / 8
