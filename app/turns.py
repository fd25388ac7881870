"""How many requests begin in one turn of the event loop: so few that the turn is short."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

MOST = 8  # requests that begin in one turn (docs/adr/0019-admission.md)
LONG_S = 0.001  # a turn after which fewer begin in the next


class Turns:
    """Requests begin in the order in which they come, a few in each turn of the event loop; the others wait.

    A turn takes as long as what is done in it: many requests are answered by a cache in the turn in which they begin, others
    are looked up in the lexicon. Whoever comes meanwhile waits for its end, even to be refused. After a turn that was longer
    than `LONG_S` half as many begin in the next, at least one; after any other one more, at most `MOST`.

    Args:
        turned: told how long the loop took to come round and how many had begun, and for each that waited how long.
        clock: seconds that never go back.
    """

    def __init__(self, turned: Callable[[float, int], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._turned = turned
        self._clock = clock
        self._most = MOST
        self._begun = 0  # in this turn
        self._since = 0.0  # when the first of them began
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def begin(self) -> None:
        """Return when it is one's turn: at once, unless as many as may have begun in this one."""
        loop = asyncio.get_running_loop()
        if self._begun >= self._most:
            since = self._clock()
            self._waiting.append(loop.create_future())
            await self._waiting[-1]
            return self._turned(self._clock() - since, 1)
        if not self._begun:
            self._since = self._clock()
            loop.call_soon(self._next, loop)
        self._begun += 1

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock()
        took = now - self._since
        self._turned(took, self._begun)
        self._most = max(1, self._most // 2) if took > LONG_S else min(MOST, self._most + 1)
        self._since, self._begun = now, 0
        while self._waiting and self._begun < self._most:
            if not (waiter := self._waiting.popleft()).done():  # its client may have gone
                waiter.set_result(None)
                self._begun += 1
        if self._begun:
            loop.call_soon(self._next, loop)
