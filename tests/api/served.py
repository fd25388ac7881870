"""A server of the test's event loop, with fakes behind its routes, and clients that speak HTTP by hand."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from app.api import create_app
from app.connections import Limits
from app.gateway import Gateway
from app.listening import listen
from app.server import Server

KEY = "secret"


class Client:
    """One connection, HTTP by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)).decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def ended(self) -> bool:
        """Whether the server closes the connection, and sends nothing more."""
        return await asyncio.wait_for(self._reader.read(), 10) == b""

    async def leave(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


class Served:
    """A server of the test's event loop."""

    def __init__(self, server: Server, task: asyncio.Task[None], port: int) -> None:
        self.server = server
        self.task = task
        self.port = port

    @asynccontextmanager
    async def client(self, file: Path | None = None) -> AsyncIterator[Client]:
        """By TCP, or by a Unix-domain socket's file."""
        opening = asyncio.open_unix_connection(file) if file else asyncio.open_connection("127.0.0.1", self.port)
        client = Client(*await opening)
        try:
            yield client
        finally:
            await client.leave()

    async def ask(self, path: str) -> tuple[int, dict[str, str], bytes]:
        async with self.client() as client:
            await client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            return await client.answer()

    async def counted(self, line: str) -> bool:
        """Whether the metrics have this line, now or soon."""
        return await eventually(lambda: line.encode() in self.server._gateway.telemetry.render())


async def eventually(holds) -> bool:
    for _ in range(500):
        if holds():
            return True
        await asyncio.sleep(0.01)
    return False


@asynccontextmanager
async def serving(
    gateway: Gateway, limits: Limits, drain_s: float = 0.0, tls: Path | None = None, beside: socket.socket | None = None
) -> AsyncIterator[Served]:
    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    server = Server(create_app(gateway, admin_key=KEY), gateway, limits, drain_s, beside)
    server.config.ssl_certfile = tls  # certificate and key in one file
    task = asyncio.create_task(server.serve(sockets=[sock]))
    assert await eventually(lambda: server.started)
    try:
        yield Served(server, task, port)
    finally:
        server.handle_exit(signal.SIGINT, None)
        await asyncio.wait_for(task, 15)


def post(path: str, body: object, extra: str = "") -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n{extra}\r\n"
    return head.encode() + content
