"""Serving: uvicorn over the stack, until a signal says stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from rich.console import Console
from starlette.types import ASGIApp

from app.access import Access
from app.admit import AtTheDoor
from app.api import create_app
from app.connections import Connection, Connections, Limits
from app.garbage import Garbage
from app.gateway import Gateway
from app.listening import BACKLOG, allow_descriptors, drop_newcomers, listen, listen_at
from app.priority import give_way, realtime
from app.settings import Settings
from app.stack import running
from app.tls import check_server_tls
from app.tracing import tracing

log = logging.getLogger("searchbar.http")

EXAMPLES = """
  Open [link={url}]{url}[/link] and type, or try:

    curl -s {url}/v1/search -d '{{"query": "bilie jean micheal jackson", "limit": 3}}' -H 'content-type: application/json'
    curl -s {url}/v1/spellcheck -d '{{"query": "smels like teen sprit"}}' -H 'content-type: application/json'
    curl -s '{url}/v1/search?q=sad+songs+for+a+rainy+day&limit=3'

  Ctrl-C stops everything."""
BESIDE = """
  For a proxy on this machine also at {path}:

    curl -s --unix-socket {path} http://localhost/v1/suggest?q=be"""
TRITON = """
  Its Triton, for this machine alone: gRPC {grpc}, HTTP {http}, metrics {metrics}
"""

# An idle connection lives longer here than in the pools of clients and load balancers (60 s is common): who closes first must
# not be the server, or a request crosses the closing on the wire and is lost.
KEEP_ALIVE_S = 75
AT_ONCE = 64  # connections accepted in a turn of the event loop, at most
GRACE_S = 10  # for what is under way when the server stops; then it is answered 503
LAST_CALLS = 10  # of 0.05 s, for what is sent on connections that are open, before those without a request are closed
GREETED_S = 0.5  # for connections that were accepted last to come about, TLS included
CHECK_TICKS = 5  # of 0.1 s, between looks at connections that take too long


class Server(uvicorn.Server):
    """uvicorn that leaves nobody without an answer who has sent a request.

    SIGTERM: not ready for `drain_s`, still answering, each answer closing its connection; then the listening socket is closed
    and what is left is answered. SIGINT, and a second signal, do without the first part.

    Args:
        app: the application.
        gateway: told when it starts to drain, and has the metrics.
        limits: of connections.
        drain_s: how long load balancers need to notice /readyz.
        beside: a Unix-domain socket that listens, to be served too, without TLS: for a proxy on this machine.

    Attributes:
        garbage: told when nothing is under way; None leaves Python's collector to itself.
    """

    garbage: Garbage | None = None

    def __init__(
        self, app: ASGIApp, gateway: Gateway, limits: Limits, drain_s: float = 0.0, beside: socket.socket | None = None
    ) -> None:
        self.shared = Connections(limits, lambda reason: gateway.telemetry.refused.labels(reason).inc())
        config = uvicorn.Config(
            app,
            http=self.shared.protocol,  # type: ignore[arg-type] # documented as a class, called as a factory
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # `Application` looks at them, where it matters
            timeout_graceful_shutdown=GRACE_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            backlog=BACKLOG,
        )
        super().__init__(config)
        self._gateway = gateway
        self._drain_s = drain_s
        self._beside = beside
        self._leave_at: float | None = None
        self._ears: list[socket.socket] = []
        self._greeted: set[asyncio.Task[object]] = set()
        gateway.telemetry.connections.set_function(lambda: len(self.server_state.connections))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See `uvicorn.Server.handle_exit`; the signal is not raised again afterwards: the stack is still to be taken down."""
        if sig == signal.SIGTERM and self._drain_s and self._leave_at is None:
            self._leave_at = time.monotonic() + self._drain_s
            self._gateway.draining = self.shared.draining = True
            return
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """See `uvicorn.Server.on_tick`; ten times a second."""
        if counter % CHECK_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast(Connection, connection).check(now)
        if self.garbage is not None:
            self.garbage.tick(time.monotonic(), not self.server_state.tasks)
        if self._leave_at is not None and time.monotonic() >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server.startup`; connections that come at once are accepted at once.

        libuv accepts one in a turn of the event loop. Of 256 that come to a busy server the last would be answered a second
        late, be it with a refusal.
        """
        await super().startup(sockets)
        for sock in sockets or ():
            self._listen(sock.dup())
        if self._beside is not None:
            self._listen(self._beside.dup())

    def _listen(self, ear: socket.socket) -> None:
        ear.setblocking(False)
        self._ears.append(ear)
        asyncio.get_running_loop().add_reader(ear, self._hear, ear)

    def _hear(self, ear: socket.socket) -> None:
        with suppress(OSError):  # nobody waits any more; or no more files may be open, which libuv sees to
            for _ in range(AT_ONCE):
                self._greet(ear.accept()[0])

    def _greet(self, connection: socket.socket) -> None:
        """Serve a connection that was accepted."""
        protocol = partial(self.shared.protocol, self.config, self.server_state, self.lifespan.state)
        connection.setblocking(False)
        tls = None if connection.family == socket.AF_UNIX else self.config.ssl
        greeting = asyncio.get_running_loop().connect_accepted_socket(protocol, connection, ssl=tls)
        task: asyncio.Task[object] = asyncio.create_task(greeting)
        self._greeted.add(task)
        task.add_done_callback(self._was_greeted)

    def _was_greeted(self, task: asyncio.Task[object]) -> None:
        self._greeted.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.debug("a connection did not come about: %r", failure)  # a client that gave up, or whose TLS is another

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server.shutdown`; first those are let in who have connected, and those answered who have sent."""
        self._gateway.draining = self.shared.draining = True
        await self._accept_the_last()
        for _ in range(LAST_CALLS):
            if self.server_state.connections and not self.force_exit:
                await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    async def _accept_the_last(self) -> None:
        """Stop listening. Closing a socket resets the connections in its backlog: it is emptied first, and kept so."""
        for ear in self._ears:
            asyncio.get_running_loop().remove_reader(ear)
        for server in self.servers:
            server.close()
        for ear in self._ears:
            drop_newcomers(ear)
            with suppress(OSError):  # nobody waits any more
                while True:
                    self._greet(ear.accept()[0])
            ear.close()
        self._ears.clear()
        if self._greeted:
            await asyncio.wait(self._greeted, timeout=GREETED_S)


async def serve_until_stopped(settings: Settings, console: Console) -> None:
    """Start the stack, announce the URL, serve until SIGINT or SIGTERM, stop everything.

    Raises:
        SetupError, IndexUnavailable: see `stack.running`, and `priority.realtime` where that is set.
    """
    async with AsyncExitStack() as cleanup:
        access = Access.of(settings)
        check_server_tls(settings)
        sock = cleanup.enter_context(listen(settings.host, settings.port))
        beside = cleanup.enter_context(listen_at(settings.socket)) if settings.socket else None
        with console.status("Starting Triton and loading the models"):
            stack = await cleanup.enter_async_context(running(settings))
        key = settings.admin_key.get_secret_value() if settings.admin_key else None
        tracer = await cleanup.enter_async_context(tracing(settings))
        app = create_app(
            stack.gateway,
            max_body_bytes=settings.max_body_bytes,
            max_bulk_bytes=settings.max_bulk_bytes,
            admin_key=key,
            access=access,
            tracer=tracer,
        )
        settled = Limits(receive_s=settings.receive_s, max_connections=settings.max_connections)
        allow_descriptors(settings.max_connections)
        server = Server(app, stack.gateway, settled, settings.drain_s, beside)
        if stack.gateway.admission is not None and access.open and tracer is None:
            server.shared.door = AtTheDoor(stack.gateway.admission, access.headers)
        server.config.ssl_certfile, server.config.ssl_keyfile = settings.tls_cert, settings.tls_key
        if settings.realtime:
            cleanup.enter_context(realtime())
            cleanup.callback(asyncio.create_task(give_way()).cancel)
        host, port = sock.getsockname()[:2]
        scheme = "https" if access.https else "http"
        console.print(EXAMPLES.format(url=f"{scheme}://{host}:{port}"), highlight=False, soft_wrap=True)
        if settings.socket:
            console.print(BESIDE.format(path=settings.socket), highlight=False, soft_wrap=True)
        if stack.triton is not None:
            where = {"grpc": stack.triton.grpc_url, "http": stack.triton.http_url, "metrics": stack.triton.metrics_url}
            console.print(TRITON.format(**where), highlight=False, soft_wrap=True)
        server.garbage = Garbage(time.monotonic())
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        await server.serve(sockets=[sock])
