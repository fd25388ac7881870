"""Coalescing: requests that arrive while a call is in flight leave together in the next one.

Nothing waits when the model is idle, so an unloaded request pays nothing; under load the batch grows by itself to what arrives
during one call. (The same idea as group commit; compare Triton's dynamic batcher, which sees one gateway as one client.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.errors import ModelFailed, ModelUnavailable, Overloaded
from app.spans import Span, current, shared

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Entry(Generic[Item, Result]):
    """An item, where its result goes, the span that waits for it, and the call that it left in."""

    item: Item
    future: asyncio.Future[Result]
    span: Span | None
    call: asyncio.Task[None] | None = None


class Coalescer(Generic[Item, Result]):
    """Batches `submit`ted items for `run`.

    Args:
        run: answers a batch, one result an item, in order.
        max_batch: most items in one call.
        max_in_flight: calls under way at once.
        max_queue: items that may wait; more are refused.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        max_batch: int,
        max_in_flight: int,
        max_queue: int,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._max_queue = max_queue
        self._queue: deque[Entry[Item, Result]] = deque()
        self._calls: dict[asyncio.Task[None], list[Entry[Item, Result]]] = {}

    async def submit(self, item: Item) -> Result:
        """The result for `item`. Cancelling the caller drops an item that has not left yet, and the last caller's its call.

        Raises:
            Overloaded: `max_queue` items are waiting already.
            SearchbarError: whatever `run` raised for this item.
        """
        if len(self._queue) >= self._max_queue:
            raise Overloaded(f"{len(self._queue)} requests are waiting")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        entry = Entry(item, future, current())
        self._queue.append(entry)
        self._dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if entry.call is not None and all(mate.future.done() for mate in self._calls.get(entry.call, ())):
                entry.call.cancel()  # nobody waits for it any more
            raise

    def _dispatch(self) -> None:
        while self._queue and len(self._calls) < self._max_in_flight:
            batch: list[Entry[Item, Result]] = []
            while self._queue and len(batch) < self._max_batch:
                entry = self._queue.popleft()
                if not entry.future.done():  # its caller has gone
                    batch.append(entry)
            if batch:
                call = asyncio.create_task(self._call(batch))
                self._calls[call] = batch
                for entry in batch:
                    entry.call = call
                call.add_done_callback(self._finished)

    def _finished(self, call: asyncio.Task[None]) -> None:
        _fail(self._calls.pop(call), ModelUnavailable("shutting down"))  # those that a cancelled call leaves behind
        self._dispatch()

    async def _call(self, batch: list[Entry[Item, Result]]) -> None:
        try:
            with shared("batch", [entry.span for entry in batch]):
                results = await self._run([entry.item for entry in batch])
            if len(results) != len(batch):
                raise ModelFailed(f"{len(results)} results for {len(batch)} items")
        except ModelFailed as exc:
            if len(batch) == 1:
                _fail(batch, exc)
            else:  # one bad item must not fail its batch mates: find it
                for entry in batch:
                    if not entry.future.done():
                        await self._call([entry])
        except Exception as exc:
            _fail(batch, exc)
        else:
            for entry, result in zip(batch, results, strict=True):
                if not entry.future.done():
                    entry.future.set_result(result)

    async def close(self) -> None:
        """Cancel what is under way; whoever still waits gets a ModelUnavailable."""
        _fail(self._queue, ModelUnavailable("shutting down"))
        self._queue.clear()
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


def _fail(batch: Iterable[Entry[Item, Result]], exc: Exception) -> None:
    for entry in batch:
        if not entry.future.done():
            entry.future.set_exception(exc)
