"""The embedded index in processes of its own, so that the gateway's thread is left to requests (ADR 29).

The engine keeps Python's interpreter lock while it searches, and ranking is Python: in the gateway's process both would take
turns with everything else it does. Queries that come while the processes are busy leave together (`coalesce.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from app.coalesce import Coalescer
from app.domain import Hit, IndexQuery, Item
from app.errors import IndexUnavailable, SearchbarError, SetupError
from app.index.manifest import Manifest
from app.index.wire import Frames, frame, pack_item, pack_query, python, unpack_hits, unpack_items

BATCH = 8  # queries in one call: as many as the index answers in one turn (`edge.CHUNK`)
CALLS = 2  # of queries under way in each process: it has the next one when it has answered one
MAX_QUEUE = 1024  # queries that wait; more are refused
HANG_S = 5.0  # without an answer it owes, after which a process is started again
LOOK_S = 0.5  # between looks at what it owes
GRACE_S = 30.0  # to make changes final, when it is told to close
LONG_LIFE_S = 10.0  # after which a process that ends is started again at once
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0  # before it is started again otherwise

_log = logging.getLogger("searchbar.index")

Result = TypeVar("Result")


class Child(asyncio.Protocol):
    """One life of a process that answers.

    Attributes:
        manifest: of the index that it has opened.
        ended: done when its end of the socket is gone.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        self.manifest: Manifest | None = None
        self.ended: asyncio.Future[None] = loop.create_future()
        self.began = loop.time()
        self._process = process
        self._numbers = itertools.count(1)
        self._frames = Frames()
        self._hello: asyncio.Future[Any] = loop.create_future()
        self._owed: dict[int, tuple[float, asyncio.Future[Any]]] = {0: (self.began, self._hello)}  # since when, by number
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def start(cls, directory: Path, *, alone: bool) -> Child:
        """A process that has the index open.

        Raises:
            IndexUnavailable, SetupError: as `EdgeIndex.open` and `LiveEdgeIndex.open`, or the process ended at once.
        """
        ours, theirs = socket.socketpair()
        mode = "alone" if alone else "shared"
        with ExitStack() as on_failure, theirs:
            on_failure.enter_context(ours)
            process = await asyncio.create_subprocess_exec(
                *python("app.index.answering", str(theirs.fileno()), str(directory), mode, str(_log.getEffectiveLevel())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
            on_failure.pop_all()
        child = cls(process)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: child, sock=ours)
            child.manifest = await child._hello
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def busy(self) -> int:
        """How many calls it owes an answer."""
        return len(self._owed)

    def owes_since(self) -> float | None:
        """The time, by the event loop's clock, of the oldest call it owes an answer."""
        return next((since for since, _ in self._owed.values()), None)

    async def call(self, method: str, *arguments: object) -> Any:
        """What the process answers; see `answering.py`.

        Raises:
            IndexUnavailable: it has ended.
            SearchbarError: what the method raised there.
        """
        if self.ended.done():
            raise IndexUnavailable("the index's process has ended")
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        number, answer = next(self._numbers), loop.create_future()
        self._owed[number] = loop.time(), answer
        self._transport.write(frame((number, method, arguments)))
        return await answer

    async def close(self) -> None:
        """Have it make its changes final and end; it is killed where that takes longer than `GRACE_S`."""
        try:
            await asyncio.wait_for(self.call("close"), GRACE_S)
        except (SearchbarError, asyncio.TimeoutError) as exc:
            _log.warning("the index's process did not close by itself: %r", exc)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End it at once. Idempotent."""
        if self._transport is not None:
            self._transport.abort()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        for number, well, value in self._frames.feed(data):
            _, answer = self._owed.pop(number)
            if answer.done():  # its caller has gone
                continue
            if well:
                answer.set_result(value)
            else:
                answer.set_exception(value)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)
        for _, answer in self._owed.values():
            if not answer.done():
                answer.set_exception(IndexUnavailable("the index's process has ended"))
        self._owed.clear()


class IndexProcess:
    """`WritableIndex` over an index directory that other processes have open: one to change it, or any number to read it.

    A process that ends, or owes an answer for `HANG_S`, is started again; what it had acknowledged is there.

    Attributes:
        manifest: of the index as it was first opened.
        restarts: how often a process was started again.
        observe: told the seconds that a query took, if it had an answer.
    """

    def __init__(self, directory: Path, children: Sequence[Child], *, alone: bool) -> None:
        assert children[0].manifest is not None
        self.manifest = children[0].manifest
        self.restarts = 0
        self.observe: Callable[[float], None] = lambda seconds: None
        self._directory = directory
        self._alone = alone
        self._children: dict[int, Child] = dict(enumerate(children))
        self._closed = False
        self._calls: Coalescer[IndexQuery, list[Hit]] = Coalescer(
            self._query,
            max_batch=BATCH,
            max_in_flight=CALLS * len(children),
            max_queue=MAX_QUEUE,
            observe=lambda seconds: self.observe(seconds),
        )
        self._keepers = [asyncio.create_task(self._keep(place)) for place in self._children]

    @classmethod
    async def start(cls, directory: Path, *, alone: bool = False, processes: int = 1) -> IndexProcess:
        """The index at `directory`, opened by so many processes; `alone` to change it.

        Raises:
            IndexUnavailable: see `EdgeIndex.open`.
            SetupError: another process has it open, and one of the two changes it; or several processes were to change it.
        """
        if alone and processes > 1:
            raise SetupError("an index that is changed while it is served has one process: set SEARCHBAR_INDEX_PROCESSES=1")
        starting = [asyncio.create_task(Child.start(directory, alone=alone)) for _ in range(processes)]
        try:
            children = await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            for child in await asyncio.gather(*starting, return_exceptions=True):
                if isinstance(child, Child):
                    await child.kill()
            raise
        return cls(directory, children, alone=alone)

    @property
    def dimensions(self) -> int:
        """Length of the dense vectors."""
        return self.manifest.dimensions

    async def query(self, queries: Sequence[IndexQuery]) -> list[list[Hit]]:
        """See `VectorIndex.query`.

        Raises:
            Overloaded: `MAX_QUEUE` queries are waiting.
        """
        if len(queries) == 1:
            return [await self._calls.submit(queries[0])]
        return list(await asyncio.gather(*(self._calls.submit(query) for query in queries)))

    async def count(self) -> int:
        """See `VectorIndex.count`."""
        found: int = await self._idlest().call("count")
        return found

    async def items(self) -> AsyncIterator[Item]:
        """See `VectorIndex.items`."""
        offset: int | None = None
        while True:
            page, offset = await self._idlest().call("page", offset)
            for item in unpack_items(page):
                yield item
            if offset is None:
                return

    async def get(self, ids: Sequence[str]) -> list[Item]:
        """See `WritableIndex.get`."""
        return unpack_items(await self._idlest().call("get", list(ids)))

    async def upsert(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """See `WritableIndex.upsert`."""
        await asyncio.shield(self._idlest().call("upsert", [pack_item(item) for item in items], vectors))

    async def delete(self, ids: Sequence[str]) -> None:
        """See `WritableIndex.delete`."""
        await asyncio.shield(self._idlest().call("delete", list(ids)))

    async def close(self) -> None:
        """See `VectorIndex.close`."""
        if self._closed:
            return
        self._closed = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._calls.close()
        children = list(self._children.values())
        self._children.clear()
        await asyncio.gather(*(child.close() for child in children))

    async def _query(self, batch: list[IndexQuery]) -> list[list[Hit]]:
        found = await self._idlest().call("query", [pack_query(query) for query in batch])
        return [unpack_hits(hits) for hits in found]

    def _idlest(self) -> Child:
        """The process that owes the fewest answers."""
        if self._closed:
            raise IndexUnavailable("the index is closed")
        if not self._children:
            raise IndexUnavailable("the index's process has ended and is being started again")
        return min(self._children.values(), key=lambda child: child.busy)

    async def _keep(self, place: int) -> None:
        """Start a process again whenever it has ended or hangs."""
        wait_s = FIRST_WAIT_S
        clock = asyncio.get_running_loop().time
        while True:
            child = self._children[place]
            while not child.ended.done() and clock() - (child.owes_since() or clock()) < HANG_S:
                await asyncio.wait([child.ended], timeout=LOOK_S)
            _log.error("the index's process %s: starting another", "ended" if child.ended.done() else f"hung for {HANG_S:g} s")
            del self._children[place]
            wait_s = FIRST_WAIT_S if clock() - child.began > LONG_LIFE_S else min(2 * wait_s, LONGEST_WAIT_S)
            await child.kill()
            self._children[place] = await self._another(wait_s)
            self.restarts += 1

    async def _another(self, wait_s: float) -> Child:
        while True:
            await asyncio.sleep(wait_s)
            try:
                child = await Child.start(self._directory, alone=self._alone)
            except (SearchbarError, OSError) as exc:
                _log.error("the index cannot be opened again: %s", exc)
            else:
                assert child.manifest is not None
                if (child.manifest.dimensions, child.manifest.embedder) == (self.manifest.dimensions, self.manifest.embedder):
                    return child
                _log.error("the index at %s was replaced by one of another embedder: restart the server", self._directory)
                await child.kill()
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
