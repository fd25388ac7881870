"""Answers kept for a while, and identical questions under way asked once.

What one listener typed the next one types too: the queries of a search bar follow a Zipf law. Bounded in number (the least
recently used answer goes first) and in time. For one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.spans import note

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


OUTCOME = "searchbar.cache"  # attribute of the span that asks


@dataclass(slots=True, eq=False)
class Call(Generic[Value]):
    """A question under way, whether its answer is worth keeping, and how many callers wait for it."""

    task: asyncio.Task[Value]
    keep: Callable[[Value], bool]
    waiting: int = 0


class AnswerCache(Generic[Key, Value]):
    """Keeps what `get` makes. Values are shared between callers: they must not be changed.

    Args:
        entries: most answers held; 0 turns the cache off, the sharing of calls too.
        ttl_s: an answer is given for this long after it was made, however often it is asked for.
        clock: seconds that never go back.

    Attributes:
        hits: answers given from memory.
        misses: calls started.
        shared: callers that joined a call already under way.
        evictions: answers dropped to make room.
        cleared: how often every answer was forgotten.
    """

    def __init__(self, entries: int, ttl_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.hits = self.misses = self.shared = self.evictions = self.cleared = 0
        self._most = entries
        self._ttl_s = ttl_s
        self._clock = clock
        self._answers: OrderedDict[Key, tuple[float, Value]] = OrderedDict()  # when it expires, and the answer
        self._calls: dict[Key, Call[Value]] = {}

    @property
    def size(self) -> int:
        """Answers held; those past their time count until they are asked for or make room."""
        return len(self._answers)

    def held(self, key: Key, *, noted: bool = True) -> Value | None:
        """The answer that is kept for `key`; None when there is none, or it is past its time. `noted`: on the current span."""
        held = self._answers.get(key)
        if held is None:
            return None
        if self._clock() >= held[0]:
            del self._answers[key]
            return None
        self.hits += 1
        if noted:
            note(OUTCOME, "hit")
        self._answers.move_to_end(key)
        return held[1]

    def hold(self, key: Key, answer: Value, since: int) -> None:
        """Keep an answer that was made when `cleared` was `since`, if nothing was forgotten in between."""
        if not self._most or self.cleared != since:
            return
        while len(self._answers) >= self._most:
            self._answers.popitem(last=False)
            self.evictions += 1
        self._answers[key] = (self._clock() + self._ttl_s, answer)

    async def get(
        self,
        key: Key,
        make: Callable[[], Coroutine[Any, Any, Value]],
        keep: Callable[[Value], bool] = lambda answer: True,
    ) -> Value:
        """The answer for `key`, by `make` when there is none; kept if `keep` says so.

        Callers that ask while `make` runs share its answer or its error; errors are not kept. A caller that is cancelled leaves
        the others waiting; the last one to go cancels the call.
        """
        if not self._most:
            return await make()
        if (held := self.held(key)) is not None:
            return held
        call = self._calls.get(key)
        if call is None:
            self.misses += 1
            note(OUTCOME, "miss")
            call = self._start(key, make, keep)
        else:
            self.shared += 1
            note(OUTCOME, "shared")
        return await self._outcome(key, call)

    def clear(self) -> None:
        """Forget every answer. Calls under way are not kept either, and are joined by nobody who asks from now on."""
        self.cleared += 1
        self._answers.clear()
        self._calls.clear()

    def _start(self, key: Key, make: Callable[[], Coroutine[Any, Any, Value]], keep: Callable[[Value], bool]) -> Call[Value]:
        call = self._calls[key] = Call(asyncio.create_task(make()), keep)
        call.task.add_done_callback(lambda task: self._finished(key, call))
        return call

    async def _outcome(self, key: Key, call: Call[Value]) -> Value:
        call.waiting += 1
        try:
            await asyncio.wait((call.task,))  # unlike awaiting the task, does not cancel it when this caller is cancelled
            return call.task.result()
        finally:
            call.waiting -= 1
            if not call.waiting and not call.task.done():
                call.task.cancel()
                self._drop(key, call)

    def _finished(self, key: Key, call: Call[Value]) -> None:
        failed = call.task.cancelled() or call.task.exception() is not None
        current = self._drop(key, call)
        if failed or not current or not call.keep(call.task.result()):
            return
        self.hold(key, call.task.result(), self.cleared)

    def _drop(self, key: Key, call: Call[Value]) -> bool:
        """Take `call` off the list; False when it was off already, by `clear` or because all its callers had gone."""
        current = self._calls.get(key) is call
        if current:
            del self._calls[key]
        return current
