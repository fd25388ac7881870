"""The adaptive limit on a simulated server: where it settles, that it falls when the server slows, and comes back."""

from __future__ import annotations

import pytest

from app.adaptive_limit import ENOUGH_S, FLOOR_S, TOLERANCE, TURN_S, AdaptiveLimit, Floor


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class BatchServer:
    """Answers all that is in flight as one batch, which takes `alone_s` and `each_s` a request more."""

    def __init__(self, limit: AdaptiveLimit, clock: Clock, alone_s: float = 0.002, each_s: float = 0.001) -> None:
        self.limit, self.clock = limit, clock
        self.alone_s, self.each_s = alone_s, each_s
        self.slowness = 1.0

    def run(self, seconds: float, offered: int = 1_000) -> float:
        """Serve for so long with `offered` requests wanting in at any time; requests answered in a second."""
        until, answered = self.clock.now + seconds, 0
        began = self.clock.now
        while self.clock.now < until:
            admitted = min(offered, self.limit.limit)
            if admitted < offered:
                self.limit.refused()
            self.limit.seen(admitted)
            took = self.slowness * (self.alone_s + self.each_s * admitted)
            self.clock.now += took
            for _ in range(admitted):
                self.limit.observe("model", took)
            answered += admitted
        return answered / (self.clock.now - began)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> AdaptiveLimit:
    return AdaptiveLimit(4, 500, rest=20, clock=clock)


@pytest.fixture
def server(limit: AdaptiveLimit, clock: Clock) -> BatchServer:
    return BatchServer(limit, clock)


def test_the_limit_settles_where_batches_pay(limit: AdaptiveLimit, server: BatchServer) -> None:
    """Under any overload the limit settles at a few times the floor, where most of the throughput is had."""
    server.run(5, offered=2)
    best = 1 / server.each_s
    goodput = server.run(30)
    settled = limit.limit
    floor_s, latency_s = server.alone_s + 2 * server.each_s, server.alone_s + settled * server.each_s
    assert goodput >= (1 - 1 / TOLERANCE) * best
    assert TOLERANCE * floor_s <= latency_s <= 1.5 * TOLERANCE * floor_s
    server.run(600)
    assert limit.limit == pytest.approx(settled, abs=1)  # ten minutes more do not move it


def test_a_quick_model_may_take_what_is_quick_enough(limit: AdaptiveLimit, clock: Clock) -> None:
    """However little a model takes alone, nobody is refused for latencies that nobody minds."""
    server = BatchServer(limit, clock, alone_s=0.0002, each_s=0.0001)
    server.run(5, offered=1)
    server.run(30)
    assert ENOUGH_S <= server.alone_s + limit.limit * server.each_s <= 1.5 * ENOUGH_S


def test_the_limit_rises_while_latency_stays(limit: AdaptiveLimit, clock: Clock) -> None:
    """A server that has room is given more until `most`."""
    BatchServer(limit, clock, alone_s=0.01, each_s=0.0).run(60)
    assert limit.limit == 500


def test_the_limit_falls_when_the_server_slows_and_recovers(limit: AdaptiveLimit, server: BatchServer) -> None:
    """Five times slower, the limit falls within two seconds, and is back within two seconds when the server is."""
    server.run(5, offered=2)
    server.run(20)
    settled = limit.limit
    server.slowness = 5.0
    server.run(2)
    assert limit.limit <= settled / 2
    server.slowness = 1.0
    server.run(2)
    assert limit.limit >= 0.9 * settled


def test_a_server_slower_for_good_gets_a_new_floor(limit: AdaptiveLimit, server: BatchServer) -> None:
    """What the least limit takes becomes the floor once the old one is forgotten: the limit does not stay down for ever."""
    server.run(5, offered=2)
    server.slowness = 20.0
    server.run(30)
    assert limit.limit == 4
    server.run(2 * FLOOR_S + 60)
    assert limit.limit > 20


def test_an_overload_from_the_start_does_not_run_away(limit: AdaptiveLimit, server: BatchServer) -> None:
    """Without a calm moment the floor is what the first window took; the limit stays bounded by it."""
    server.run(120)
    assert limit.limit < 200


def test_a_calm_limit_rests(limit: AdaptiveLimit, server: BatchServer) -> None:
    """What an overload, here of a server that is slow for a while, has brought down is back two seconds after."""
    server.run(5, offered=2)
    server.slowness = 50.0
    server.run(60)
    assert limit.limit == 4
    server.slowness = 1.0
    server.run(2, offered=1)
    assert limit.limit == 20


def test_a_calm_server_teaches_nothing_of_more(limit: AdaptiveLimit, server: BatchServer) -> None:
    """With less than half the limit in flight it does not grow: nobody knows what more would do."""
    before = limit.limit
    server.run(10, offered=before // 2 - 1)
    assert limit.limit == before


def test_long_turns_of_the_event_loop_lower_the_limit(limit: AdaptiveLimit, clock: Clock) -> None:
    """With the models idle, turns twice as long as allowed bring the limit down to the least; short ones let it rise again."""
    for seconds, expected in ((4 * TURN_S, 4), (TURN_S / 2, 500)):
        for _ in range(20_000):
            clock.now += 0.01
            limit.seen(limit.limit)
            limit.turned(seconds, 1)
        assert limit.limit == expected


def test_a_few_samples_change_nothing(limit: AdaptiveLimit, clock: Clock) -> None:
    """One slow answer an hour is no window."""
    before = limit.limit
    limit.seen(before)
    for seconds in (0.001, 9.0):
        clock.now += 3600
        limit.observe("model", seconds)
    assert limit.limit == before


def test_the_slowest_model_decides(limit: AdaptiveLimit, clock: Clock) -> None:
    """Each model has a floor of its own; the one that is furthest above its own lowers the limit."""
    for quick, slow in ((0.003, 0.020), (0.003, 0.400)):
        for _ in range(200):
            clock.now += 0.05
            limit.seen(limit.limit)
            for _ in range(10):
                limit.observe("embedder", quick)
                limit.observe("speller", slow)
        if slow == 0.020:
            risen = limit.limit
    assert limit.limit < risen / 4


def test_a_floor_is_forgotten_after_its_time() -> None:
    """The least of the last one to two periods, however far it is from what is seen now."""
    floor = Floor()
    floor.see(1.0, 0.0)
    floor.see(5.0, FLOOR_S + 1)
    assert floor.value == 1.0
    floor.see(6.0, 2 * FLOOR_S + 2)
    assert floor.value == 5.0


def test_the_limit_does_not_fall_where_the_server_comes_to_rest(clock: Clock) -> None:
    """Crowds that are served, slowly for so many, before the next one comes are let in; without a rest between them fewer."""
    limit = AdaptiveLimit(32, 256, rest=144, clock=clock)

    def ask(least: int, most: int, latency_s: float) -> None:
        for in_flight in range(least, most):
            limit.seen(in_flight)
            clock.now += 0.1 / 140
            limit.observe("model", latency_s)

    for _ in range(200):
        ask(1, 2, 0.002)
    for _ in range(50):
        ask(1, 140, 0.06)
        clock.now += 0.1
    assert limit.limit >= 144
    for _ in range(50):
        ask(100, 140, 0.06)
    assert limit.limit < 100


def test_who_is_refused_is_no_rest(clock: Clock) -> None:
    """A limit of which little is in use, because others are refused before they count, follows the latency all the same."""
    limit = AdaptiveLimit(32, 256, rest=144, clock=clock)
    for number in range(400):
        limit.seen(40)
        if number > 100:
            limit.refused()
        clock.now += 0.01
        limit.observe("model", 0.002 if number < 100 else 0.06)
    assert limit.limit < 40
