"""How many requests begin in one turn of the event loop: so few that the turn is short."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

MOST = 8  # requests that begin in one turn (docs/adr/0019-admission.md)
LONG_S = 0.001  # of a turn, after which nobody begins in it, and fewer in the next


class Turns:
    """Requests begin in the order in which they come, a few in each turn of the event loop; the others wait.

    A turn takes as long as what is done in it: many requests are answered by a cache in the turn in which they begin, others
    are looked up in the lexicon. Whoever comes meanwhile waits for its end, even to be refused. So nobody begins in a turn in
    which the first began more than `LONG_S` ago. What began may go on in later turns: after one that was longer than `LONG_S`
    half as many begin in the next, at least one; after any other one more, at most `MOST`.

    Args:
        turned: told how long the loop took to come round and how many had begun, and for each that waited how long.
        clock: seconds that never go back.
    """

    def __init__(self, turned: Callable[[float, int], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._turned = turned
        self._clock = clock
        self._most = MOST
        self._begun = 0  # in this turn
        self._first = 0.0  # when the first of them did
        self._since: float | None = None  # when this turn began; None where the last one left nobody waiting
        self._woken = 0  # who may begin in this turn before anybody else, for they have waited
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._again: list[asyncio.Future[None]] = []  # of who was woken when the turn was long already: before the others

    async def begin(self) -> None:
        """Return when it is one's turn: at once where nobody waits and this turn has room."""
        if self._since is None:
            self._since = self._clock()
            loop = asyncio.get_running_loop()
            loop.call_soon(self._next, loop)
        elif self._woken or not self._room():
            await self._wait()
        if not self._begun:
            self._first = self._clock()
        self._begun += 1

    def _room(self) -> bool:
        return not self._begun or (self._begun < self._most and self._clock() - self._first <= LONG_S)

    async def _wait(self) -> None:
        since, loop = self._clock(), asyncio.get_running_loop()
        self._waiting.append(waiter := loop.create_future())
        await waiter
        while not self._room():
            self._again.append(waiter := loop.create_future())
            await waiter
        self._turned(self._clock() - since, 1)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """End a turn, and wake whoever may begin in the next one."""
        assert self._since is not None
        now = self._clock()
        took = now - self._since
        self._turned(took, self._begun)
        self._most = max(1, self._most // 2) if took > LONG_S else min(MOST, self._most + 1)
        self._since, self._begun, self._woken = now, 0, 0
        self._waiting.extendleft(reversed(self._again))
        self._again.clear()
        while self._waiting and self._woken < self._most:
            if not (waiter := self._waiting.popleft()).done():  # its client may have gone
                waiter.set_result(None)
                self._woken += 1
        if self._woken:
            loop.call_soon(self._next, loop)
        else:
            self._since = None
