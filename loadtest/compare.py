"""Servers of the same embedder side by side: all running, loaded in turn, the same queries, the same generator.

Each is asked for the same thing before any is asked for the next, several rounds of it: a machine that changes its speed does
so for all of them.
"""

from __future__ import annotations

import itertools
import math
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import uvloop

from app.errors import SetupError
from app.index.encoder import PassageEncoder
from app.text import fold
from loadtest.connections import Sample
from loadtest.cost import BEFORE, BUSY, BUSY_SHARES
from loadtest.openloop import drive, saturate
from loadtest.peers.roster import Peer, Setting, chosen
from loadtest.report import Figures, figures, missed
from loadtest.run import difference
from loadtest.scenarios import SEED, Scenario
from loadtest.server import Target, started
from loadtest.steps import climb
from loadtest.traffic import distinct, names

LIMIT_MS = 25.0
SAME = 0.99  # cosine between an embedding of the peer's and ours
CHECKED = 64  # queries whose answers are compared
RESTLESS = 0.05  # of a core, while nobody asks
WAKES_S = 0.5  # from when a stopped server may run again to when it is asked
HOPELESS = 1.3  # a rate this many times the closed loop's is tried for a short while only
TRIAL_S = 3.0  # of each rate, when settings are tried
DONE = object()
Tell = Callable[[str], None]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long what is measured, in each round. Times in seconds, rates in requests a second."""

    seconds: float = 5.0
    warm_s: float = 3.0
    closed_s: float = 3.0
    callers: int = 32
    rates: tuple[float, ...] = (100.0, 400.0, 850.0)
    trials: int = 6
    rounds: int = 3


TUNE = Plan(seconds=TRIAL_S, warm_s=2.0, closed_s=2.0, trials=4)
QUICK = Plan(seconds=1.0, warm_s=0.5, closed_s=1.0, rates=(50.0, 100.0), trials=2, rounds=1)


@dataclass(slots=True)
class Row:
    """What one server did; in JSON as it stands here. Of several rounds each figure is from the middle one.

    Attributes:
        cosine: lowest cosine between one of its embeddings and that of the graph run in this process.
        max_tps: requests a second at p90 ≤ `LIMIT_MS`, without a failure; `rounds` the same of each round.
        closed_tps: answers a second to `Plan.callers` callers who never pause.
        alone: figures of one caller who never pauses.
        steps: the rates tried for `max_tps`, round after round: figures, and what they missed.
        at: the same of the stated rates, by rate, and of the load of (a) in the round, by `BUSY`.
        cpu_s_per_1000: processor seconds of its processes for 1 000 requests at `max_tps`.
        idle: processor seconds that its processes take in a second in which nobody asks it.
        memory_mib: proportional set size of its processes after the load.
        not_run: why it was not measured; every figure is then missing.
    """

    name: str
    letter: str
    title: str
    weights: str
    setting: str
    measured: str = ""
    cosine: float | None = None
    max_tps: float | None = None
    rounds: list[float] = field(default_factory=list)
    closed_tps: float | None = None
    alone: dict[str, Any] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    at: dict[str, dict[str, Any]] = field(default_factory=dict)
    cpu_s_per_1000: float | None = None
    idle: float | None = None
    memory_mib: float | None = None
    not_run: str = ""

    @classmethod
    def of(cls, peer: Peer, setting: Setting) -> Row:
        return cls(peer.name, peer.letter, peer.title, peer.weights, setting.name, datetime.now().isoformat(" ", "minutes"))


class Subject:
    """A running server under load. No query is sent to it twice.

    Attributes:
        stopped: it may not run while it is not asked.
    """

    def __init__(self, peer: Peer, target: Target) -> None:
        self.peer, self.target = peer, target
        self.stopped = False
        self._log = queries()

    def stop(self) -> None:
        """From now on its processes run while it is asked, and stand still otherwise."""
        self.stopped = True
        self.target.signal(signal.SIGSTOP)

    def open(self, rate_per_s: float, seconds: float) -> Figures:
        """Figures of `seconds` at a rate; requests are due whatever becomes of earlier ones."""
        requests = self._requests(round(rate_per_s * seconds))
        return self._measured(drive(self.target.url, requests, rate_per_s=rate_per_s, duration_s=seconds))

    def closed(self, callers: int, seconds: float) -> Figures:
        """Figures of callers who never pause."""
        requests = self._requests(round(4000 * seconds))
        return self._measured(saturate(self.target.url, requests, callers=callers, duration_s=seconds))

    def _requests(self, count: int) -> list[Any]:
        return [self.peer.request(text) for text in itertools.islice(self._log, count)]

    def _measured(self, load: Any) -> Figures:
        if self.stopped:
            self.target.signal(signal.SIGCONT)
            time.sleep(WAKES_S)
        cpu_s, own_s = self.target.cpu_s(), time.process_time()
        samples: list[Sample] = uvloop.run(load)
        used = difference(self.target.cpu_s(), cpu_s)
        if self.stopped:
            self.target.signal(signal.SIGSTOP)
        return figures(samples, cpu_s=used, generator_s=time.process_time() - own_s)


def queries() -> Iterator[str]:
    """Folded queries, as the tokenizer wants them, none twice; the same every time."""
    return (fold(query.text) for query in distinct(names(), SEED))


class Contestant:
    """A running server and what it did, round by round."""

    def __init__(self, row: Row, subject: Subject, plan: Plan, tell: Tell) -> None:
        self.row = row
        self._subject, self._plan, self._tell = subject, plan, tell
        self._alone: list[dict[str, Any]] = []
        self._closed: list[float] = []
        self._cpu: list[float] = []  # of the best step of each round, for 1 000 requests
        self._at: dict[str, list[dict[str, Any]]] = {}

    def warm_up(self) -> None:
        self._subject.closed(self._plan.callers, self._plan.warm_s)

    def alone(self) -> None:
        """One caller who never pauses."""
        self._alone.append(asdict(self._subject.closed(1, self._plan.closed_s)))

    def closed(self) -> None:
        """Many callers who never pause."""
        self._closed.append(self._subject.closed(self._plan.callers, self._plan.closed_s).answered_per_s)
        self._tell(f"{self.row.title}: {self._closed[-1]:.0f}/s closed loop, p50 {self._alone[-1]['p50_ms']:.1f} ms alone")

    def search(self) -> Generator[None, None, None]:
        """Looks for the highest rate at p90 ≤ `LIMIT_MS`, a trial a step.

        What is missed is tried once more: one stall of half a second is the p90 of five seconds, and no limit.
        """
        held: list[dict[str, Any]] = []
        rates = climb(max(round(0.85 * self._closed[-1]), 10.0), trials=self._plan.trials)
        rate = next(rates)
        try:
            while True:
                step = self._trial(rate)
                if step["missed"]:
                    yield
                    step = self._trial(rate)
                if not step["missed"]:
                    held.append(step)
                rate = rates.send(not step["missed"])
                yield
        except StopIteration as end:
            self.row.rounds.append(float(end.value))
        best = max(held, key=lambda step: float(step["rate"]), default=None)
        self._cpu.append(sum(best["cpu_ms"].values()) if best else math.inf)

    def _trial(self, rate: float) -> dict[str, Any]:
        step = self.tried(rate, self._plan.seconds)
        self.row.steps.append(step)
        return step

    def at(self, rate: float, name: str) -> None:
        """A stated rate; one that is missed, but not by far, is tried once more, as in `search`."""
        hopeless = rate >= HOPELESS * self._closed[-1]
        step = self.tried(rate, self._plan.seconds / 2) if hopeless else self._tried_twice(rate)
        self._at.setdefault(name, []).append(step)

    def own_load(self) -> float:
        """The first of `BUSY_SHARES` of what it carried in the round that it still holds, each tried twice; else the last."""
        for share in BUSY_SHARES:
            step = self._tried_twice(share * self.row.rounds[-1])
            if not step["missed"]:
                break
        self._at.setdefault(BUSY, []).append(step)
        return float(step["rate"])

    def _tried_twice(self, rate: float) -> dict[str, Any]:
        """A rate, and once more where it was missed."""
        step = self.tried(rate, self._plan.seconds)
        return self.tried(rate, self._plan.seconds) if step["missed"] else step

    def tried(self, rate: float, seconds: float) -> dict[str, Any]:
        """One rate: its figures and what was missed."""
        found = self._subject.open(rate, seconds)
        scenario = Scenario(self.row.name, (("embed", 1.0),), rate, LIMIT_MS, "distinct", seconds)
        step = {"rate": rate, "seconds": seconds, "missed": missed(scenario, found), **asdict(found)}
        verdict = "; ".join(step["missed"]) or "held"
        told = f"{self.row.title}: {rate:.0f}/s p50 {found.p50_ms:.1f} p90 {found.p90_ms:.1f} p99 {found.p99_ms:.1f} ms"
        self._tell(f"{told}, {verdict}")
        return step

    def waits(self, seconds: float) -> float:
        """Processor seconds a second while nobody asks it; one that takes more than `RESTLESS` is stopped from now on."""
        before = self._subject.target.cpu_s()
        time.sleep(seconds)
        share = sum(difference(self._subject.target.cpu_s(), before).values()) / seconds
        if share > RESTLESS:
            self._subject.stop()
        return share

    def conclude(self) -> Row:
        """The row, each figure from the middle round."""
        row = self.row
        row.alone = middle(self._alone, lambda found: float(found["p50_ms"]))
        row.closed_tps = middle(self._closed)
        row.max_tps = middle(row.rounds)
        cpu = self._cpu[row.rounds.index(row.max_tps)]
        row.cpu_s_per_1000 = cpu if math.isfinite(cpu) else None
        row.at = {
            # Of (a)'s own load the round of the middle rate, which is the same round for all: each has a rate of its own.
            name: middle(steps, lambda step: float(step["rate"]))
            if name == BUSY
            else middle(steps, lambda step: (bool(step["missed"]), float(step["p90_ms"])))
            for name, steps in self._at.items()
        }
        row.memory_mib = self._subject.target.memory() / 2**20
        return row


def middle(values: Sequence[Value], key: Callable[[Value], Any] = lambda value: value) -> Value:
    """The one in the middle of their order; of an even number the lower of the two."""
    return sorted(values, key=key)[(len(values) - 1) // 2]


def measure(peers: Sequence[Peer], plan: Plan, reference: Reference, logs: Path, tell: Tell) -> Iterator[list[Row]]:
    """Start the servers, check their answers and load them in turn; their rows after each round.

    A server that cannot be run says why in its row.
    """
    with ExitStack() as stack:
        rows: list[Row] = []
        contestants: list[Contestant] = []
        for peer in peers:
            row = Row.of(peer, setting := chosen(peer))
            rows.append(row)
            if program := peer.missing():
                row.not_run = f"{program} is not there: run `make compare`"
                continue
            try:
                with ExitStack() as own:
                    target = own.enter_context(running(peer, setting, logs))
                    row.cosine = reference.check(peer, target.url)
                    stack.push(own.pop_all())
            except SetupError as exc:
                row.not_run = str(exc)
                tell(f"{row.title}: {exc}")
                continue
            contestants.append(Contestant(row, Subject(peer, target), plan, tell))
            contestants[-1].warm_up()
        for one in contestants:
            one.row.idle = one.waits(plan.warm_s)
            stops = "; stopped while others are asked" * (one.row.idle > RESTLESS)
            tell(f"{one.row.title} takes {100 * one.row.idle:.1f} % of a core while it waits{stops}")
        for number in range(plan.rounds if contestants else 0):
            tell(f"round {number + 1} of {plan.rounds}")
            in_turn(contestants, plan)
            for one in contestants:
                one.conclude()
            yield rows
        if not contestants:
            yield rows


def in_turn(contestants: Sequence[Contestant], plan: Plan) -> None:
    """One round: everything that is measured, each of them before the next thing."""
    for one in contestants:
        one.alone()
    for one in contestants:
        one.closed()
    searches = [one.search() for one in contestants]
    while searches:
        searches = [search for search in searches if next(search, DONE) is not DONE]
    for rate in plan.rates:
        for one in contestants:
            one.at(rate, f"{rate:g}")
    before = next((one for one in contestants if one.row.name == BEFORE and one.row.rounds[-1]), None)
    if before is not None:
        rate = before.own_load()
        for one in contestants:
            if one is not before:
                one.at(rate, BUSY)


def running(peer: Peer, setting: Setting, logs: Path) -> AbstractContextManager[Target]:
    """The peer's server under a setting, as a context."""
    if peer.prepare and (done := subprocess.run(peer.prepare, capture_output=True, text=True)).returncode:
        raise SetupError(f"{peer.name} could not be prepared: {done.stderr.strip()[-500:]}")
    environment = {**peer.environment, **setting.environment}
    return started(environment, logs / f"{peer.name}.log", (*peer.command, *setting.arguments), peer.ready)


class Reference:
    """Embeddings by the graph itself, in this process: what every server must answer."""

    def __init__(self, repository: Path) -> None:
        self.queries = list(itertools.islice(queries(), CHECKED))
        encoder = PassageEncoder(repository, threads=1)
        self.vectors = np.asarray(uvloop.run(encoder.embed(self.queries)))
        encoder.close()

    def check(self, peer: Peer, url: str) -> float:
        """The lowest cosine between an answer and ours.

        Raises:
            SetupError: an answer is not an embedding like ours.
        """
        lowest = 1.0
        with httpx.Client(base_url=url, timeout=10) as client:
            for text, ours in zip(self.queries, self.vectors, strict=True):
                try:
                    answer = client.post(peer.path, json=peer.body(text))
                except httpx.HTTPError as exc:
                    raise SetupError(f"{peer.name} did not answer: {exc!r}") from exc
                if answer.status_code != 200:
                    raise SetupError(f"{peer.name} answered {answer.status_code}: {answer.text[:200]}")
                theirs = np.asarray(peer.read(answer.json()), np.float32)
                if theirs.shape != ours.shape:
                    raise SetupError(f"{peer.name} answered {theirs.shape[-1:]} numbers, not {ours.shape}")
                lowest = min(lowest, float(theirs @ ours / np.linalg.norm(theirs) / np.linalg.norm(ours)))
        if lowest < SAME:
            raise SetupError(f"{peer.name} answers other embeddings: cosine {lowest:.3f} with ours")
        return lowest


def tune(peer: Peer, plan: Plan, logs: Path, tell: Tell) -> list[dict[str, Any]]:
    """Each setting of a peer under a short search for its limit: what `chosen` chooses from."""
    found = []
    for setting in peer.settings:
        row = Row.of(peer, setting)
        try:
            with running(peer, setting, logs) as target:
                one = Contestant(row, Subject(peer, target), plan, tell)
                one.warm_up()
                one.alone()
                one.closed()
                deque(one.search(), maxlen=0)
                one.conclude()
        except SetupError as exc:
            row.not_run = str(exc)
        tell(f"{peer.title}, {setting.name}: {row.not_run or f'{row.max_tps:.0f}/s at p90 ≤ {LIMIT_MS:g} ms'}")
        figures = {"max_tps": row.max_tps or 0.0, "closed_tps": row.closed_tps or 0.0}
        found.append({"setting": setting.name, **figures, **({"not_run": row.not_run} if row.not_run else {})})
    return found
