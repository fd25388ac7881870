"""The answer cache: what is kept and for how long, who shares a call, and who ends one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.cache import AnswerCache
from app.errors import ModelFailed

TTL_S = 10


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Model:
    """Counts upwards: no two answers are the same. Answers when it is let, and may fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.failure: Exception | None = None

    def on(self, key: str) -> Callable[[], Coroutine[Any, Any, int]]:
        return lambda: self.answer(key)

    async def answer(self, key: str) -> int:
        self.asked.append(key)
        number = len(self.asked)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(key)
            await asyncio.sleep(0.01)  # winding up takes a moment
            raise
        if self.failure:
            raise self.failure
        return number


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def counts(cache: AnswerCache[str, int]) -> tuple[int, int, int, int]:
    return cache.hits, cache.misses, cache.shared, cache.evictions


class Reference:
    """What a bounded TTL map with LRU eviction does, written as slowly as that is plain."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.kept: list[tuple[str, int, float]] = []  # key, answer, when made; least recently used first
        self.hits = self.misses = self.evictions = 0

    def get(self, key: str, now: float) -> int:
        held = next((entry for entry in self.kept if entry[0] == key), None)
        self.kept = [entry for entry in self.kept if entry is not held]
        if held is not None and now - held[2] < TTL_S:
            self.hits += 1
            self.kept.append(held)
            return held[1]
        self.misses += 1
        if len(self.kept) == self.entries:
            self.evictions += 1
            self.kept.pop(0)
        self.kept.append((key, self.misses, now))
        return self.misses


STEPS = st.lists(st.sampled_from([*"abcdef" * 2, 1, 4, TTL_S, None]), max_size=60)


@given(entries=st.integers(1, 5), steps=STEPS)
@example(entries=2, steps=list("abacab"))  # "a" was used since "b": "b" makes room for "c"
@example(entries=2, steps=["a", 4, "a", "b", 4, "a", 4, "a", "c", "b", None, "a"])
def test_keeps_what_a_plain_map_would(entries: int, steps: list[str | int | None]) -> None:
    """Whatever is asked, waited and cleared, answers, counts and bound are those of the reference."""

    async def run() -> None:
        clock, model, reference = Clock(), Model(), Reference(entries)
        cache: AnswerCache[str, int] = AnswerCache(entries, TTL_S, clock)
        for step in steps:
            if step is None:
                cache.clear()
                reference.kept = []
            elif isinstance(step, int):
                clock.now += step
            else:
                assert await cache.get(step, model.on(step)) == reference.get(step, clock.now)
            assert cache.size == len(reference.kept) <= entries
        assert counts(cache) == (reference.hits, reference.misses, 0, reference.evictions)

    asyncio.run(run())


async def test_an_answer_lives_for_its_time_however_often_it_is_asked_for() -> None:
    """Hits do not prolong an answer's life: at its time the model is asked again."""
    clock, model = Clock(), Model()
    cache: AnswerCache[str, int] = AnswerCache(8, TTL_S, clock)
    found = []
    for now in (0.0, 6.0, 9.9, 10.0, 19.9, 20.0):
        clock.now = now
        found.append(await cache.get("a", model.on("a")))
    assert found == [1, 1, 1, 2, 2, 3]


async def test_callers_at_once_share_one_call() -> None:
    """A hundred callers of one key cost one call and get the same object; another key has a call of its own."""
    made: list[object] = []

    async def make() -> object:
        await asyncio.sleep(0.01)
        made.append(object())
        return made[-1]

    cache: AnswerCache[str, object] = AnswerCache(8, TTL_S)
    found = await asyncio.gather(*(cache.get("a", make) for _ in range(100)), cache.get("b", make))
    assert len(made) == 2
    assert all(answer is found[0] for answer in found[:100])
    assert found[100] is not found[0]
    assert (cache.misses, cache.shared, cache.size) == (2, 99, 2)


async def test_one_that_leaves_does_not_take_the_others_along() -> None:
    """The caller that started the call is cancelled; the other gets the answer, and it is kept."""
    model = Model()
    model.go.clear()
    cache: AnswerCache[str, int] = AnswerCache(8, TTL_S)
    first, second = (asyncio.create_task(cache.get("a", model.on("a"))) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled() and not second.done()
    model.go.set()
    assert await second == 1
    assert await cache.get("a", model.on("a")) == 1
    assert (model.asked, model.cancelled) == (["a"], [])


async def test_the_last_to_leave_ends_the_call() -> None:
    """With all its callers gone the call is cancelled, nothing is kept, and who asks at once starts another."""
    model = Model()
    model.go.clear()
    cache: AnswerCache[str, int] = AnswerCache(8, TTL_S)
    tasks = [asyncio.create_task(cache.get("a", model.on("a"))) for _ in range(3)]
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    again = asyncio.create_task(cache.get("a", model.on("a")))  # before the cancelled call has wound up
    await settle()
    assert (model.asked, model.cancelled, cache.size) == (["a", "a"], ["a"], 0)
    model.go.set()
    assert await again == 2
    assert counts(cache) == (0, 2, 2, 0)


async def test_errors_reach_everyone_and_are_not_kept() -> None:
    """All callers of a failed call see its error; the next one asks again."""
    model = Model()
    model.go.clear()
    model.failure = ModelFailed("out of memory")
    cache: AnswerCache[str, int] = AnswerCache(8, TTL_S)
    tasks = [asyncio.create_task(cache.get("a", model.on("a"))) for _ in range(3)]
    await settle()
    model.go.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [model.failure] * 3
    assert (model.asked, cache.size) == (["a"], 0)
    model.failure = None
    assert await cache.get("a", model.on("a")) == 2


async def test_what_was_under_way_when_cleared_is_not_kept() -> None:
    """Its own caller gets it, who asks after the clearing gets a new one, and that alone is kept, whichever ends first."""
    cache: AnswerCache[str, int] = AnswerCache(8, TTL_S)
    old, new = Model(), Model()
    new.asked.append("so that its first answer is 2")
    old.go.clear()
    before = asyncio.create_task(cache.get("a", old.on("a")))
    await settle()
    cache.clear()
    assert await cache.get("a", new.on("a")) == 2
    old.go.set()
    assert await before == 1
    assert await cache.get("a", new.on("a")) == 2
    assert (cache.hits, cache.misses, cache.shared, cache.size) == (1, 2, 0, 1)


async def test_leaving_a_cleared_call_leaves_its_successor_alone() -> None:
    """A caller from before the clearing that goes ends its own call, not the one that others wait for now."""
    model = Model()
    model.go.clear()
    cache: AnswerCache[str, int] = AnswerCache(8, TTL_S)
    before = asyncio.create_task(cache.get("a", model.on("a")))
    await settle()
    cache.clear()
    after = asyncio.create_task(cache.get("a", model.on("a")))
    await settle()
    before.cancel()
    await settle()
    joined = asyncio.create_task(cache.get("a", model.on("a")))
    await settle()
    model.go.set()
    assert await asyncio.gather(after, joined) == [2, 2]
    assert model.asked == ["a", "a"]


@pytest.mark.parametrize("at_once", [pytest.param(True, id="at once"), pytest.param(False, id="one after the other")])
async def test_no_entries_mean_no_cache(at_once: bool) -> None:
    """Turned off, every caller asks the model for itself and nothing is counted."""
    model = Model()
    cache: AnswerCache[str, int] = AnswerCache(0, TTL_S)
    if at_once:
        found = await asyncio.gather(*(cache.get("a", model.on("a")) for _ in range(3)))
    else:
        found = [await cache.get("a", model.on("a")) for _ in range(3)]
    assert found == [1, 2, 3]
    assert (counts(cache), cache.size) == ((0, 0, 0, 0), 0)
