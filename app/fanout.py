"""Concurrent parts of one answer under one deadline: what is late or down is left out and named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import TypeVar

from app.deadline import within
from app.errors import DeadlineExceeded, ModelFailed, SearchbarError, Unavailable
from app.spans import span

Result = TypeVar("Result")


class FanOut:
    """Starts parts, waits for them within the deadline, cancels on exit what is still running.

    Attributes:
        degraded: names of the parts that failed or were late, in the order they were missed.
        timings_ms: time each part took, the longest where one ran twice.
        failures: what went wrong with each degraded part.
    """

    def __init__(self, deadline_s: float) -> None:
        self.degraded: list[str] = []
        self.timings_ms: dict[str, float] = {}
        self.failures: dict[str, SearchbarError] = {}
        self._started = time.perf_counter()
        self._deadline_s = deadline_s
        self._tasks: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> FanOut:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self.timings_ms["total"] = self._elapsed_ms()

    def start(self, name: str, part: Awaitable[Result], share: float = 1.0) -> asyncio.Task[Result | None]:
        """Run `part` from now on; its result is None when it fails or is not there after `share` of the deadline."""
        task = asyncio.create_task(self._guard(name, part, share))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, name: str, part: Awaitable[Result], share: float) -> Result | None:
        began = self._elapsed_ms()
        left_s = share * self._deadline_s - began / 1000
        try:
            with span(name):
                return await within(part, max(left_s, 0.001), f"{name}: no answer in time")
        except (Unavailable, DeadlineExceeded, ModelFailed) as exc:
            self._miss(name, exc)
        finally:
            took = self._elapsed_ms() - began
            self.timings_ms[name] = max(took, self.timings_ms.get(name, 0.0))
        return None

    def _miss(self, name: str, failure: SearchbarError) -> None:
        if name not in self.failures:
            self.failures[name] = failure
            self.degraded.append(name)

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1000
