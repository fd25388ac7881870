"""Coalescing: what leaves together, what never waits, and what happens to the mates of an item that fails."""

from __future__ import annotations

import asyncio

import pytest

from app.coalesce import Coalescer
from app.errors import ModelFailed, ModelUnavailable, Overloaded


class Doubler:
    """A model that doubles numbers, refuses negative ones as a batch, and answers when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def run(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        await self.go.wait()
        if any(item < 0 for item in batch):
            raise ModelFailed("negative")
        return [2 * item for item in batch]


def coalescer(model: Doubler, *, max_batch: int = 8, max_in_flight: int = 1, max_queue: int = 100) -> Coalescer[int, int]:
    return Coalescer(model.run, max_batch=max_batch, max_in_flight=max_in_flight, max_queue=max_queue)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_nothing_waits_when_idle() -> None:
    """An item that meets an idle model leaves at once and alone."""
    model = Doubler()
    calls = coalescer(model)
    assert [await calls.submit(item) for item in (1, 2)] == [2, 4]
    assert model.batches == [[1], [2]]


async def test_items_meanwhile_leave_together() -> None:
    """What arrives while a call is in flight leaves in the next one, in order, `max_batch` at a time."""
    model = Doubler()
    model.go.clear()
    calls = coalescer(model, max_batch=3)
    tasks = [asyncio.create_task(calls.submit(item)) for item in range(6)]
    await settle()
    assert model.batches == [[0]]
    model.go.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
    assert model.batches == [[0], [1, 2, 3], [4, 5]]


async def test_as_many_calls_as_allowed_are_in_flight() -> None:
    """`max_in_flight` calls run at once, never more, and all but the first leave with `WORTH_A_CALL` items."""
    model = Doubler()
    model.go.clear()
    calls = coalescer(model, max_in_flight=2)
    tasks = [asyncio.create_task(calls.submit(item)) for item in range(4)]
    await settle()
    assert model.batches == [[0]]
    tasks += [asyncio.create_task(calls.submit(item)) for item in range(4, 10)]
    await settle()
    assert model.batches == [[0], [1, 2, 3, 4]]
    model.go.set()
    await asyncio.gather(*tasks)
    assert model.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8, 9]]


async def test_cancelled_items_are_dropped() -> None:
    """An item whose caller has gone is not sent; its mates are."""
    model = Doubler()
    model.go.clear()
    calls = coalescer(model)
    tasks = [asyncio.create_task(calls.submit(item)) for item in range(4)]
    await settle()
    tasks[2].cancel()
    await settle()
    model.go.set()
    assert [await tasks[1], await tasks[3]] == [2, 6]
    assert model.batches == [[0], [1, 3]]


async def test_a_call_ends_with_its_last_caller() -> None:
    """A call goes on while one of its callers waits; without any it is cancelled and makes room for the next."""
    model = Doubler()
    model.go.clear()
    calls = coalescer(model, max_batch=2)
    tasks = [asyncio.create_task(calls.submit(item)) for item in range(4)]
    await settle()
    tasks[0].cancel()
    await settle()
    assert model.batches == [[0], [1, 2]]
    tasks[1].cancel()
    await settle()
    assert model.batches == [[0], [1, 2]]
    model.go.set()
    assert [await tasks[2], await tasks[3]] == [4, 6]
    assert [task.cancelled() for task in tasks] == [True, True, False, False]


async def test_one_bad_item_does_not_fail_its_mates() -> None:
    """When a batch fails its items are tried one by one, and the bad one alone gets the error."""
    model = Doubler()
    model.go.clear()
    calls = coalescer(model)
    tasks = [asyncio.create_task(calls.submit(item)) for item in (0, 1, -1, 2)]
    await settle()
    model.go.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == [0, 2, 4]
    assert isinstance(answers[2], ModelFailed)
    assert model.batches == [[0], [1, -1, 2], [1], [-1], [2]]


async def test_a_model_that_is_away_fails_the_batch_once() -> None:
    """An unavailable model is not asked again for each item, and is asked again by the next."""
    asked: list[list[int]] = []
    away = True

    async def run(batch: list[int]) -> list[int]:
        asked.append(batch)
        await asyncio.sleep(0)
        if away:
            raise ModelUnavailable("down")
        return batch

    calls: Coalescer[int, int] = Coalescer(run, max_batch=8, max_in_flight=1, max_queue=8)
    answers = await asyncio.gather(*(calls.submit(item) for item in range(4)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ModelUnavailable] * 4
    assert asked == [[0], [1, 2, 3]]
    away = False
    assert await calls.submit(9) == 9


async def test_too_few_results_are_an_error() -> None:
    """A model that answers fewer items than it was asked fails, and nobody gets another's result."""

    async def run(batch: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return []

    calls: Coalescer[int, int] = Coalescer(run, max_batch=8, max_in_flight=1, max_queue=8)
    answers = await asyncio.gather(*(calls.submit(item) for item in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ModelFailed] * 3


async def test_the_queue_is_bounded() -> None:
    """Items beyond `max_queue` are refused at once; those that wait are served."""
    model = Doubler()
    model.go.clear()
    calls = coalescer(model, max_queue=2)
    tasks = [asyncio.create_task(calls.submit(item)) for item in range(3)]
    await settle()
    with pytest.raises(Overloaded):
        await calls.submit(3)
    model.go.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4]


async def test_closing_leaves_nobody_waiting() -> None:
    """Closing cancels the call in flight; its callers and those in the queue get an error instead of waiting for ever."""
    model = Doubler()
    model.go.clear()
    calls = coalescer(model)
    tasks = [asyncio.create_task(calls.submit(item)) for item in range(3)]
    await settle()
    await calls.close()
    answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert [type(answer) for answer in answers] == [ModelUnavailable] * 3
    assert model.batches == [[0]]
