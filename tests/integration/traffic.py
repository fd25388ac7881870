"""Open-loop traffic for a block, in a thread of its own, and what must be true of all of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType

from loadtest.connections import Connections, Request, Sample
from loadtest.openloop import drive
from loadtest.traffic import distinct, names

RATE_PER_S = 120.0
REFUSED = "Connect call failed"
SHARES = {"/v1/search": 0.5, "/v1/spellcheck": 0.25, "/v1/embed": 0.25}
LONGEST_S = 120.0  # of a block


class Traffic:
    """Search, spelling and embedding, no query twice, at `RATE_PER_S`, for as long as the block lasts.

    Attributes:
        samples: what became of each request, once the block is over.
        lag_s: the longest that a request waited which asks nothing of anybody (/livez, twenty times a second), or that the
            generator itself was held up: generator, gateway and a starting Triton share the machine's cores. By so much a
            request may be read late, and by so much again its deadline be noticed late.
    """

    def __init__(self, url: str, seed: int, shares: dict[str, float] | None = None, rate_per_s: float = RATE_PER_S) -> None:
        self._url = url
        self._seed = seed
        self._shares = shares or SHARES
        self._rate_per_s = rate_per_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.samples: list[Sample] = []
        self.lag_s = 0.0

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a request hung"

    def statuses(self, path: str = "", since: float = 0.0, before: float = float("inf")) -> Counter[int]:
        """How often each status was answered to requests sent to `path` from `since` on, `before` then; 0 stands for none."""
        return Counter(s.status for s in self.samples if path in s.path and since <= s.sent < before)

    def longest(self, count: int) -> list[Sample]:
        """The requests that waited longest for their answers."""
        return sorted(self.samples, key=lambda sample: -sample.service_ms)[:count]

    async def _run(self) -> None:
        beats = [asyncio.create_task(self._beat()), asyncio.create_task(self._probe())]
        sent = await drive(
            self._url, self._requests(), rate_per_s=self._rate_per_s, duration_s=LONGEST_S, connections=1024, timeout_s=20.0
        )
        self._over.set()
        await asyncio.gather(*beats)
        self.samples = sent

    async def _beat(self) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            self.lag_s = max(self.lag_s, time.perf_counter() - began - 0.01)

    async def _probe(self) -> None:
        pool, loop = Connections(self._url, 1, 20.0), asyncio.get_running_loop()
        while not self._over.is_set():
            answered: asyncio.Future[Sample] = loop.create_future()
            pool.ask(Request("/livez"), time.perf_counter(), answered.set_result)
            self.lag_s = max(self.lag_s, (await answered).service_ms / 1000)
            await asyncio.sleep(0.05)
        pool.close()

    def _requests(self) -> Iterator[Request]:
        rng = random.Random(self._seed)
        drawn = distinct(names(), self._seed)
        for query in itertools.takewhile(lambda _: not self._over.is_set(), drawn):
            (path,) = rng.choices(list(self._shares), list(self._shares.values()))
            yield Request(path, json.dumps({"query": query.text}).encode())
