"""A deadline for what the current task awaits."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

from app.errors import DeadlineExceeded

Result = TypeVar("Result")


async def within(work: Awaitable[Result], seconds: float, late: str) -> Result:
    """What `work` returns, awaited in the task that asks: `asyncio.wait_for` would start a second one, most of what it costs.

    Raises:
        DeadlineExceeded: with the message `late`; `work` has been cancelled.
    """
    task = asyncio.current_task()
    assert task is not None
    over = False

    def cut_off() -> None:
        nonlocal over
        over = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, cut_off)
    try:
        return await work
    except asyncio.CancelledError as exc:
        if not over:
            raise
        if sys.version_info >= (3, 11):
            task.uncancel()  # the task itself goes on
        raise DeadlineExceeded(late) from exc
    finally:
        timer.cancel()
