"""The process that answers from an embedded index, for the gateway at the other end of a socket (`process.py`).

It first says what it has opened, or why it could not. Then it answers calls, (number, method, arguments), in any order, with
(number, whether it went well, value or error). It ends when it is told to close, or when the gateway's end is gone: what it has
acknowledged is in the index's journal.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import uvloop

from app.errors import IndexUnavailable, SearchbarError
from app.garbage import Garbage
from app.index.edge import EdgeIndex
from app.index.edge_live import LiveEdgeIndex
from app.index.wire import PROCESS, Frames, Packed, frame, pack_hit, pack_item, unpack_items, unpack_query

TICK_S = 1.0

_log = logging.getLogger("searchbar.index")


def main(descriptor: str, directory: str, mode: str, level: str) -> None:
    """Answers on the socket `descriptor` from the index at `directory`, which `mode` "alone" opens to change it.

    Signals of a terminal or a service manager are for the gateway, which ends this process in its own order.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(PROCESS)
    logging.basicConfig(level=int(level), format="%(levelname)s %(name)s: %(message)s")
    uvloop.run(answer(socket.socket(fileno=int(descriptor)), Path(directory), alone=mode == "alone"))


async def answer(gateway: socket.socket, directory: Path, *, alone: bool) -> None:
    """See `main`."""
    try:
        index = LiveEdgeIndex.open(directory, os.getppid()) if alone else EdgeIndex.open(directory)
    except SearchbarError as exc:
        gateway.sendall(frame((0, False, exc)))
        return
    garbage = Garbage(time.monotonic())
    loop = asyncio.get_running_loop()
    _, answering = await loop.create_unix_connection(lambda: Answering(index), sock=gateway)
    while not answering.over.done():
        await asyncio.wait([answering.over], timeout=TICK_S)
        garbage.tick(time.monotonic(), not answering.under_way)


class Answering(asyncio.Protocol):
    """The gateway's calls on `index`.

    Attributes:
        over: done when this process shall end.
        under_way: calls that are not answered yet.
    """

    def __init__(self, index: EdgeIndex) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way: set[asyncio.Task[None]] = set()
        self._index = index
        self._frames = Frames()
        self._transport: asyncio.WriteTransport | None = None
        self._methods: dict[str, Callable[..., Awaitable[Any]]] = {
            "query": self._query,
            "page": self._page,
            "count": index.count,
            "get": self._get,
            "upsert": self._upsert,
            "delete": self._delete,
            "close": index.close,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._reply(0, True, self._index.manifest)

    def data_received(self, data: bytes) -> None:
        for call in self._frames.feed(data):
            task = asyncio.create_task(self._answer(*call))
            self.under_way.add(task)
            task.add_done_callback(self.under_way.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    async def _answer(self, number: int, method: str, arguments: Sequence[Any]) -> None:
        try:
            self._reply(number, True, await self._methods[method](*arguments))
        except SearchbarError as exc:
            self._reply(number, False, exc)
        except Exception as exc:
            _log.exception("%s failed", method)
            self._reply(number, False, IndexUnavailable(f"the index's process failed: {exc!r}"))
        if method == "close":
            assert self._transport is not None
            self._transport.close()  # once what is written has left

    def _reply(self, number: int, well: bool, value: object) -> None:
        assert self._transport is not None
        self._transport.write(frame((number, well, value)))

    async def _query(self, queries: Sequence[Packed]) -> list[list[Packed]]:
        found = await self._index.query([unpack_query(packed) for packed in queries])
        return [[pack_hit(hit) for hit in hits] for hits in found]

    async def _page(self, offset: int | None) -> tuple[list[Packed], int | None]:
        items, following = self._index.page(offset)
        return [pack_item(item) for item in items], following

    async def _get(self, ids: Sequence[str]) -> list[Packed]:
        return [pack_item(item) for item in await self._live().get(ids)]

    async def _upsert(self, items: Sequence[Packed], vectors: npt.NDArray[np.float32]) -> None:
        await self._live().upsert(unpack_items(items), vectors)

    async def _delete(self, ids: Sequence[str]) -> None:
        await self._live().delete(ids)

    def _live(self) -> LiveEdgeIndex:
        if not isinstance(self._index, LiveEdgeIndex):
            raise IndexUnavailable("the index was opened to be read")
        return self._index
