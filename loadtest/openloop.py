"""Open- and closed-loop HTTP/1.1 load from one process, cheap enough to share two cores with what it measures.

Open loop (`drive`): requests are due at times fixed beforehand, whatever becomes of the earlier ones, and latency counts from
the moment a request was *due*. A server that stalls is charged for all who would have come meanwhile, which a closed loop
forgets (Gil Tene's "coordinated omission"; HdrHistogram's and wrk2's correction is not needed where arrivals do not wait).
Closed loop (`saturate`): so many callers, each sending its next request when it has its answer; for a server's limit.

No task, future or timer of its own for a request: answers come by callback, and one timer a run sends what is due. Where
more is due in a millisecond than one request, an open loop sleeps between two looks, instead of being woken for each answer:
that takes less processor time from the server, and adds up to a millisecond to what is measured. It does not wait for a core
that the server has, where the machine lets it have real-time priority (`priority`).
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from app.errors import SetupError
from app.priority import allowed, realtime
from loadtest.connections import Connections, Request, Sample

TICK_S = 0.001  # what uvloop's timers resolve; a shorter pause would be a busy wait
BURST = 32  # most requests sent in a row: a generator that has fallen behind still reads answers
OPENED_S = 0.02  # an open loop has connections for as many requests as are due in this time before it begins
NAPPING_PER_S = 1 / TICK_S  # requests due, from which on answers wait for the next tick


class Run:
    """Samples of one run, and when all requests of it have theirs."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.asked = 0
        self.closed = False  # nothing more will be asked
        self.over = asyncio.Event()

    def done(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.check()

    def check(self) -> None:
        if self.closed and len(self.samples) == self.asked:
            self.over.set()


async def drive(
    base_url: str,
    requests: Iterable[Request],
    *,
    rate_per_s: float,
    duration_s: float,
    connections: int = 256,
    timeout_s: float = 5.0,
    seed: int | None = None,
    socket: Path | None = None,
    progress: Callable[[int], None] = lambda sent: None,
) -> list[Sample]:
    """Send requests at `rate_per_s` for `duration_s`, and wait for the last answers.

    Args:
        base_url: http://host:port.
        requests: as many as are due, at least; an iterable that ends early ends the run.
        connections: most connections open at once; a request that finds none free is late by its own fault, and is charged.
        seed: draws exponential pauses (a Poisson process); None sends at equal ones.
        socket: file of a Unix-domain socket to connect to instead of the URL's host and port.
        progress: told how many were sent, ten times a second.
    """
    pool, loop, run = Connections(base_url, connections, timeout_s, socket), asyncio.get_running_loop(), Run()
    source = zip(arrivals(rate_per_s, duration_s, seed), requests, strict=False)
    await pool.open(round(rate_per_s * OPENED_S))
    told = start = time.perf_counter() + 0.05
    upcoming, napping, woken = next(source, None), rate_per_s >= NAPPING_PER_S, start

    def nap() -> None:
        nonlocal woken
        now, woken = time.perf_counter(), woken + TICK_S
        if woken > now:
            time.sleep(woken - now)
        else:
            woken = now
        loop.call_soon(send_what_is_due)  # once the answers were read that have come meanwhile

    def send_what_is_due() -> None:
        nonlocal upcoming, told
        now, burst = time.perf_counter(), 0
        while upcoming is not None and (due := start + upcoming[0]) <= now and burst < BURST:
            run.asked += 1
            burst += 1
            pool.ask(upcoming[1], due, run.done)
            upcoming = next(source, None)
        if now - told >= 0.1:
            told = now
            progress(run.asked)
        if upcoming is None:
            run.closed = True
            run.check()
        elif napping:
            loop.call_soon(nap)  # once these requests were written
        else:
            loop.call_later(max(TICK_S, start + upcoming[0] - time.perf_counter()), send_what_is_due)

    with uncollected(), ahead():
        send_what_is_due()
        await run.over.wait()
    pool.close()
    progress(run.asked)
    return run.samples


async def saturate(
    base_url: str,
    requests: Iterable[Request],
    *,
    callers: int,
    duration_s: float,
    timeout_s: float = 5.0,
    progress: Callable[[int], None] = lambda sent: None,
) -> list[Sample]:
    """Let `callers` ask one request after the other for `duration_s`."""
    pool, source, run = Connections(base_url, callers, timeout_s), iter(requests), Run()
    until = time.perf_counter() + duration_s

    def ask(_: object = None) -> None:
        now = time.perf_counter()
        request = next(source, None) if now < until else None
        if request is None:
            run.closed = True
            return
        run.asked += 1
        if run.asked % 100 == 0:
            progress(run.asked)
        pool.ask(request, now, answered)

    def answered(sample: Sample) -> None:
        asyncio.get_running_loop().call_soon(ask)  # not here: a server that refuses connections would recurse
        run.samples.append(sample)
        asyncio.get_running_loop().call_soon(run.check)

    with uncollected():
        for _ in range(callers):
            ask()
        run.check()
        await run.over.wait()
    pool.close()
    return run.samples


@contextmanager
def uncollected() -> Iterator[None]:
    """No looks for cycles meanwhile: each would go through all samples, and the pause would be charged to the server."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def ahead() -> Iterator[None]:
    """Before what is measured where that is allowed: time that the generator waits for a core is no latency of the server's."""
    with ExitStack() as meanwhile:
        with suppress(SetupError):
            meanwhile.enter_context(realtime())
        yield


def priority() -> str:
    """The priority that `drive` has on this machine, in words."""
    return "real-time priority" if allowed() else "no priority: what it waits for a core is charged to the server"


def arrivals(rate_per_s: float, duration_s: float, seed: int | None) -> Iterator[float]:
    """Seconds after the start at which requests are due."""
    if seed is None:
        yield from (number / rate_per_s for number in range(round(rate_per_s * duration_s)))
        return
    rng, after = random.Random(seed), 0.0
    while (after := after + rng.expovariate(rate_per_s)) < duration_s:
        yield after
