"""Few begin in a turn of the event loop: how few, in which order, and who is told."""

from __future__ import annotations

import asyncio

from app.adaptive_limit import AdaptiveLimit
from app.admission import BULK, Admission
from app.admit import Admit
from app.turns import LONG_S, MOST, Turns


class Loop:
    """Requests that begin by `turns`; each takes `takes_s` of a clock of its own, and `later_s` in the turn after it."""

    def __init__(self, takes_s: float = 0.0, later_s: float = 0.0) -> None:
        self.now = 0.0
        self.takes_s, self.later_s = takes_s, later_s
        self.begun: list[int] = []
        self.told: list[tuple[float, int]] = []
        self.turns = Turns(lambda seconds, count: self.told.append((seconds, count)), clock=lambda: self.now)

    async def request(self, number: int) -> None:
        await self.turns.begin()
        self.now += self.takes_s
        self.begun.append(number)
        await asyncio.sleep(0)
        self.now += self.later_s

    async def all(self, number: int) -> list[int]:
        """How many began in each turn until all had."""
        tasks = [asyncio.create_task(self.request(one)) for one in range(number)]
        began = []
        while not all(task.done() for task in tasks):
            before = len(self.begun)
            await asyncio.sleep(0)
            began.append(len(self.begun) - before)
            assert len(began) < 10 * number, "they do not begin"
        return [count for count in began if count]


async def test_few_begin_in_a_turn_of_the_event_loop() -> None:
    """Of many at once `MOST` begin, in the next turn as many, in order."""
    loop = Loop()
    assert await loop.all(3 * MOST + 1) == [MOST, MOST, MOST, 1]
    assert loop.begun == list(range(3 * MOST + 1))


async def test_nobody_begins_in_a_turn_that_is_long() -> None:
    """Of who may begin in a turn none does once the first began `LONG_S` ago; they come before those who wait, in order."""
    loop = Loop(takes_s=0.4 * LONG_S)
    began = await loop.all(3 * MOST)
    assert began[:2] == [3, 3] and max(began) == 3  # the third begins after 0.8 of it, a fourth would after 1.2
    assert loop.begun == list(range(3 * MOST))


async def test_who_comes_later_does_not_overtake() -> None:
    """Who comes in a turn with room waits behind those who wait already."""
    loop = Loop(takes_s=1.5 * LONG_S)
    tasks = [asyncio.create_task(loop.request(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(loop.request(99)))
    await asyncio.wait(tasks)
    assert loop.begun == [0, 1, 2, 99]


async def test_fewer_begin_while_turns_are_long() -> None:
    """Half as many after each that was long by what had begun before it, at least one; one more after each that was not."""
    loop = Loop(later_s=1.5 * LONG_S)
    assert await loop.all(2 * MOST + 7) == [MOST, MOST, MOST // 2, MOST // 4, 1]
    assert loop.begun == list(range(2 * MOST + 7))
    loop.later_s = 0.0
    assert (await loop.all(9))[:3] == [1, 2, 3]


async def test_one_begins_however_long_turns_are() -> None:
    """Nobody waits for ever."""
    loop = Loop(takes_s=1000 * LONG_S)
    assert (await loop.all(40))[-20:] == [1] * 20


async def test_who_has_gone_keeps_no_turn() -> None:
    """One whose client has gone while it waited is passed over; those behind it begin as if it had never come."""
    loop = Loop()
    tasks = [asyncio.create_task(loop.request(number)) for number in range(2 * MOST)]
    await asyncio.sleep(0)
    for task in tasks[MOST : MOST + 3]:
        task.cancel()
    await asyncio.wait(tasks)
    assert loop.begun == [*range(MOST), *range(MOST + 3, 2 * MOST)]
    await loop.request(99)  # and the next one need not wait
    assert loop.begun[-1] == 99


async def test_who_is_told_how_long() -> None:
    """Of each turn with how many it began; of each that waited how long."""
    loop = Loop(takes_s=0.5 * LONG_S / MOST)
    await loop.all(2 * MOST + 1)
    turn_s = 0.5 * LONG_S
    told = [(round(seconds / turn_s, 6), count) for seconds, count in loop.told]
    assert told[0] == (1.0, MOST) and told.count((1.0, MOST)) == 2
    assert told[-2:] == [(1.0, 1), (round(1 / MOST, 6), 1)]  # the last one waited for a whole turn, and its own was short
    assert len(told) == 3 + MOST + 1


async def test_admission_lets_them_begin_so_with_or_without_a_door() -> None:
    """Of many that have a place at once `MOST` begin; the others hold theirs and wait."""
    many = Admission(AdaptiveLimit(100, 100))
    begun = []

    async def app(scope, receive, send) -> None:
        begun.append(scope["number"])

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message) -> None:
        raise AssertionError(message)

    admit = Admit(app, many, max_body_bytes=100)
    scopes = [{"type": "http", "path": "/v1/embed", "method": "POST", "headers": [], "number": n} for n in range(2 * MOST)]
    tasks = [asyncio.create_task(admit(scope, receive, send)) for scope in scopes]
    await asyncio.sleep(0)
    assert begun == list(range(MOST)) and many.in_flight[BULK] == MOST
    await asyncio.gather(*tasks)
    assert begun == list(range(2 * MOST)) and many.in_flight[BULK] == 0
