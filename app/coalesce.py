"""Coalescing: requests that arrive while a call is in flight leave together in the next one.

Nothing waits when the model is idle, so an unloaded request pays nothing; under load the batch grows by itself to what arrives
during one call. (The same idea as group commit; compare Triton's dynamic batcher, which sees one gateway as one client.)
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.errors import ModelFailed, ModelUnavailable, Overloaded
from app.spans import Span, current, shared

WORTH_A_CALL = 4  # items that wait, for which another call leaves beside one under way: fewer would cost more than they save
AT_ONCE = 4  # callers given their result in one turn of the event loop

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
        max_in_flight: calls under way at once; all but the first leave with `WORTH_A_CALL` items or more.
        max_queue: items that may wait; more are refused.
        observe: told the seconds between an item's coming and its result, for those that have one.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        max_batch: int,
        max_in_flight: int,
        max_queue: int,
        observe: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._max_queue = max_queue
        self._observe = observe
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
        came = time.monotonic()
        self._dispatch()
        try:
            result = await future
        except asyncio.CancelledError:
            if entry.call is not None and all(mate.future.done() for mate in self._calls.get(entry.call, ())):
                entry.call.cancel()  # nobody waits for it any more
            raise
        self._observe(time.monotonic() - came)
        return result

    def _dispatch(self) -> None:
        while self._queue and self._may_leave():
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

    def _may_leave(self) -> bool:
        under_way = len(self._calls)
        return not under_way or (under_way < self._max_in_flight and len(self._queue) >= WORTH_A_CALL)

    def _finished(self, call: asyncio.Task[None]) -> None:
        batch = self._calls.pop(call)
        if call.cancelled():
            _fail(batch, ModelUnavailable("shutting down"))
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
            _hand_out(deque(zip(batch, results, strict=True)))

    async def close(self) -> None:
        """Cancel what is under way; whoever still waits gets a ModelUnavailable."""
        _fail(self._queue, ModelUnavailable("shutting down"))
        self._queue.clear()
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


def _hand_out(results: deque[tuple[Entry[Item, Result], Result]]) -> None:
    """Give `AT_ONCE` callers their result and go on in the next turn of the event loop.

    What a caller does with its result takes a fraction of a millisecond: a whole batch of them in one turn would keep new
    requests waiting, which may be refused in no time, for longer than a refusal may take.
    """
    for _ in range(min(AT_ONCE, len(results))):
        entry, result = results.popleft()
        if not entry.future.done():
            entry.future.set_result(result)
    if results:
        asyncio.get_running_loop().call_soon(_hand_out, results)


def _fail(batch: Iterable[Entry[Item, Result]], exc: Exception) -> None:
    for entry in batch:
        if not entry.future.done():
            entry.future.set_exception(exc)
