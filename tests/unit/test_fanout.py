"""Fan-out under one deadline: parts that fail or are late are named, and nothing is left running."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import DeadlineExceeded, InvalidInput, ModelFailed, ModelUnavailable, Overloaded, SearchbarError
from app.fanout import FanOut


async def after(delay_s: float, value: object) -> object:
    await asyncio.sleep(delay_s)
    if isinstance(value, Exception):
        raise value
    return value


async def test_parts_run_at_the_same_time() -> None:
    """Parts that are in time give their results, are timed and are not named."""
    here, there = asyncio.Event(), asyncio.Event()

    async def meet(value: str, mine: asyncio.Event, other: asyncio.Event) -> str:
        mine.set()
        await other.wait()  # passes only when both are under way
        return value

    async with FanOut(10.0) as parts:
        first, second = parts.start("first", meet("a", here, there)), parts.start("second", meet("b", there, here))
        assert (await first, await second) == ("a", "b")
    assert parts.degraded == []
    assert set(parts.timings_ms) == {"first", "second", "total"}
    assert max(parts.timings_ms.values()) == parts.timings_ms["total"]


async def test_late_parts_are_named_and_cancelled() -> None:
    """A part that is not there after its share of the deadline is None, named as late, and cancelled."""
    cancelled = asyncio.Event()

    async def slow() -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return 1

    async with FanOut(1.0) as parts:
        late, quick = parts.start("late", slow(), share=0.2), parts.start("quick", after(0.3, 7))
        assert await late is None
        assert cancelled.is_set()
        assert await quick == 7
    assert parts.degraded == ["late"]
    assert isinstance(parts.failures["late"], DeadlineExceeded)
    assert 190 <= parts.timings_ms["late"] < 900


@pytest.mark.parametrize("failure", [ModelUnavailable("x"), Overloaded("x"), DeadlineExceeded("x"), ModelFailed("x")])
async def test_failures_are_kept(failure: SearchbarError) -> None:
    """A part that fails is None and named once with its first failure, however often it ran."""
    async with FanOut(10.0) as parts:
        assert await parts.start("model", after(0, failure)) is None
        assert await parts.start("model", after(0, ModelFailed("again"))) is None
        assert await parts.start("other", after(0, 1)) == 1
    assert (parts.degraded, parts.failures) == (["model"], {"model": failure})


@pytest.mark.parametrize("defect", [KeyError("x"), InvalidInput("x")])
async def test_defects_are_not_degradation(defect: Exception) -> None:
    """An error that is not a part being away comes out instead of being hidden."""
    with pytest.raises(type(defect)):
        async with FanOut(10.0) as parts:
            await parts.start("broken", after(0, defect))


async def test_nothing_is_left_running() -> None:
    """Leaving by an exception cancels what is under way and waits for it."""
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("endless")

    with pytest.raises(RuntimeError):
        async with FanOut(30.0) as parts:
            parts.start("endless", endless())
            await asyncio.sleep(0.01)
            raise RuntimeError
    assert ended == ["endless"]


async def test_a_repeated_part_shows_its_longest_time() -> None:
    """Where a part ran twice its timing is the longer of the two."""
    async with FanOut(10.0) as parts:
        await parts.start("index", after(0.1, 1))
        await parts.start("index", after(0, 1))
    assert parts.timings_ms["index"] >= 95
