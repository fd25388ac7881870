"""A deadline in the task that asks: what is late is cancelled and said so, and whoever cancels the task is obeyed."""

from __future__ import annotations

import asyncio
import sys

import pytest

from app.deadline import within
from app.errors import DeadlineExceeded


async def never(cancelled: list[bool]) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        cancelled.append(True)
        raise


async def test_what_is_in_time_is_returned() -> None:
    """The result, or the error, and no timer is left that could cancel the task later."""
    assert await within(asyncio.sleep(0, "done"), 0.02, "late") == "done"
    with pytest.raises(ZeroDivisionError):
        await within(divided(), 0.02, "late")
    await asyncio.sleep(0.05)


async def divided() -> float:
    return 1 / 0


async def test_what_is_late_is_cancelled() -> None:
    """The work is told, the caller gets the message, and may go on."""
    cancelled: list[bool] = []
    with pytest.raises(DeadlineExceeded, match="no answer"):
        await within(never(cancelled), 0.01, "no answer")
    assert cancelled == [True]
    task = asyncio.current_task()
    assert task is not None and (sys.version_info < (3, 11) or task.cancelling() == 0)


async def test_whoever_cancels_the_task_is_obeyed() -> None:
    """A cancellation from outside is no deadline."""
    cancelled: list[bool] = []
    task = asyncio.create_task(within(never(cancelled), 60, "late"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled == [True]
