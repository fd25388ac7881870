"""Serving: uvicorn over the stack, until a signal says stop."""

from __future__ import annotations

import gc
import logging
import signal
import socket
from contextlib import AsyncExitStack
from types import FrameType

import uvicorn
from rich.console import Console

from app.access import Access
from app.api import create_app
from app.errors import SetupError
from app.settings import Settings
from app.stack import running
from app.tls import check_server_tls
from app.tracing import tracing

EXAMPLES = """
  Open [link={url}]{url}[/link] and type, or try:

    curl -s {url}/v1/search -d '{{"query": "bilie jean micheal jackson", "limit": 3}}' -H 'content-type: application/json'
    curl -s {url}/v1/spellcheck -d '{{"query": "smels like teen sprit"}}' -H 'content-type: application/json'
    curl -s '{url}/v1/search?q=sad+songs+for+a+rainy+day&limit=3'

  Ctrl-C stops everything."""
TRITON = """
  Its Triton, for this machine alone: gRPC {grpc}, HTTP {http}, metrics {metrics}
"""

# An idle connection lives longer here than in the pools of clients and load balancers (60 s is common): who closes first must
# not be the server, or a request crosses the closing on the wire and is lost.
KEEP_ALIVE_S = 75


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before anything slow starts.

    Raises:
        SetupError: the port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        raise SetupError(f"cannot serve on {host}:{port} ({exc.strerror}): stop what uses it or give another --port") from exc
    return sock


class Server(uvicorn.Server):
    """uvicorn without its habit of raising the signal again once it has stopped: the stack is still to be taken down then."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


async def serve_until_stopped(settings: Settings, console: Console) -> None:
    """Start the stack, announce the URL, serve until SIGINT or SIGTERM, stop everything.

    Raises:
        SetupError, IndexUnavailable: see `stack.running`.
    """
    async with AsyncExitStack() as cleanup:
        access = Access.of(settings)
        check_server_tls(settings)
        sock = cleanup.enter_context(listen(settings.host, settings.port))
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
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False,
            timeout_graceful_shutdown=10, timeout_keep_alive=KEEP_ALIVE_S,
        )  # fmt: skip
        config.ssl_certfile, config.ssl_keyfile = settings.tls_cert, settings.tls_key
        host, port = sock.getsockname()[:2]
        scheme = "https" if access.https else "http"
        console.print(EXAMPLES.format(url=f"{scheme}://{host}:{port}"), highlight=False, soft_wrap=True)
        if stack.triton is not None:
            where = {"grpc": stack.triton.grpc_url, "http": stack.triton.http_url, "metrics": stack.triton.metrics_url}
            console.print(TRITON.format(**where), highlight=False, soft_wrap=True)
        gc.collect()
        gc.freeze()  # the lexicon's millions of objects stay: going over them stopped everything for 60 ms at a time
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        await Server(config).serve(sockets=[sock])
