"""Servers of the same embedder side by side: one at a time, the same queries, the same generator."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop

from app.errors import SetupError
from app.index.encoder import PassageEncoder
from app.text import fold
from loadtest.openloop import Sample, drive, saturate
from loadtest.peers.roster import Peer, Setting, chosen
from loadtest.report import Figures, figures, missed
from loadtest.run import difference
from loadtest.scenarios import SEED, Scenario
from loadtest.server import Target, started
from loadtest.steps import highest
from loadtest.traffic import distinct, names

LIMIT_MS = 25.0
SAME = 0.99  # cosine between an embedding of the peer's and ours
CHECKED = 64  # queries whose answers are compared
HOPELESS = 1.3  # a rate this many times the closed loop's is tried for a short while only
TRIAL_S = 3.0  # of each rate, when settings are tried
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long what is measured. Times in seconds, rates in requests a second."""

    seconds: float = 6.0
    warm_s: float = 3.0
    closed_s: float = 4.0
    callers: int = 32
    rates: tuple[float, ...] = (100.0, 400.0, 850.0)
    trials: int = 7


TUNE = Plan(seconds=TRIAL_S, warm_s=2.0, closed_s=2.0, trials=4)
QUICK = Plan(seconds=1.0, warm_s=0.5, closed_s=1.0, rates=(50.0, 100.0), trials=2)


@dataclass(slots=True)
class Row:
    """What one server did; in JSON as it stands here.

    Attributes:
        cosine: lowest cosine between one of its embeddings and that of the graph run in this process.
        max_tps: requests a second at p90 ≤ `LIMIT_MS`, without a failure.
        closed_tps: answers a second to `Plan.callers` callers who never pause.
        alone: figures of one caller who never pauses.
        steps: the rates tried for `max_tps`; `at` the stated ones, by rate. Figures, and what they missed.
        cpu_s_per_1000: processor seconds of its processes for 1 000 requests at `max_tps`.
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
    closed_tps: float | None = None
    alone: dict[str, Any] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    at: dict[str, dict[str, Any]] = field(default_factory=dict)
    cpu_s_per_1000: float | None = None
    memory_mib: float | None = None
    not_run: str = ""

    @classmethod
    def of(cls, peer: Peer, setting: Setting) -> Row:
        return cls(peer.name, peer.letter, peer.title, peer.weights, setting.name, datetime.now().isoformat(" ", "minutes"))


class Subject:
    """A running server under load. No query is sent to it twice."""

    def __init__(self, peer: Peer, target: Target) -> None:
        self.peer, self.target = peer, target
        self._log = queries()

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
        cpu_s, own_s = self.target.cpu_s(), time.process_time()
        samples: list[Sample] = uvloop.run(load)
        used = difference(self.target.cpu_s(), cpu_s)
        return figures(samples, cpu_s=used, generator_s=time.process_time() - own_s)


def queries() -> Iterator[str]:
    """Folded queries, as the tokenizer wants them, none twice; the same every time."""
    return (fold(query.text) for query in distinct(names(), SEED))


def measure(peer: Peer, plan: Plan, reference: Reference, logs: Path, tell: Tell) -> Row:
    """Start a server, check its answers, load it, stop it; a server that cannot be run says why in its row."""
    setting = chosen(peer)
    row = Row.of(peer, setting)
    if program := peer.missing():
        row.not_run = f"{program} is not there: run `make compare`"
        return row
    try:
        with running(peer, setting, logs) as target:
            row.cosine = reference.check(peer, target.url)
            fill(row, Subject(peer, target), plan, tell)
    except SetupError as exc:
        row.not_run = str(exc)
    return row


def running(peer: Peer, setting: Setting, logs: Path) -> Any:
    """The peer's server under a setting, as a context."""
    if peer.prepare and (done := subprocess.run(peer.prepare, capture_output=True, text=True)).returncode:
        raise SetupError(f"{peer.name} could not be prepared: {done.stderr.strip()[-500:]}")
    environment = {**peer.environment, **setting.environment}
    return started(environment, logs / f"{peer.name}.log", (*peer.command, *setting.arguments), peer.ready)


def fill(row: Row, subject: Subject, plan: Plan, tell: Tell) -> None:
    """Measure everything about one running server."""
    subject.closed(plan.callers, plan.warm_s)
    row.alone = asdict(subject.closed(1, plan.closed_s))
    row.closed_tps = subject.closed(plan.callers, plan.closed_s).answered_per_s
    tell(f"{row.title}: {row.closed_tps:.0f}/s closed loop, p50 {row.alone['p50_ms']:.1f} ms alone")
    row.max_tps = limit(row, subject, plan, tell)
    for rate in plan.rates:
        seconds = plan.seconds if rate < HOPELESS * row.closed_tps else plan.seconds / 2
        tried(row, subject, rate, seconds, tell, into=row.at)
    row.memory_mib = subject.target.memory() / 2**20


def limit(row: Row, subject: Subject, plan: Plan, tell: Tell) -> float:
    """Requests a second at p90 ≤ `LIMIT_MS`; fills `steps` and `cpu_s_per_1000`."""

    def held(rate: float) -> bool:
        return not tried(row, subject, rate, plan.seconds, tell)["missed"]

    found = highest(held, max(round(0.85 * (row.closed_tps or 0.0)), 10.0), trials=plan.trials)
    best = [step for step in row.steps if step["rate"] == found]
    row.cpu_s_per_1000 = sum(best[-1]["cpu_ms"].values()) if best else None
    return found


def tried(
    row: Row, subject: Subject, rate: float, seconds: float, tell: Tell, into: dict[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """One rate tried: its figures and what was missed, kept among the row's steps or in `into`."""
    found = subject.open(rate, seconds)
    scenario = Scenario(row.name, (("embed", 1.0),), rate, LIMIT_MS, "distinct", seconds)
    step = {"rate": rate, "seconds": seconds, "missed": missed(scenario, found), **asdict(found)}
    if into is None:
        row.steps.append(step)
    else:
        into[f"{rate:g}"] = step
    verdict = "; ".join(step["missed"]) or "held"
    tell(f"{row.title}: {rate:.0f}/s p50 {found.p50_ms:.1f} p90 {found.p90_ms:.1f} p99 {found.p99_ms:.1f} ms, {verdict}")
    return step


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
                subject = Subject(peer, target)
                subject.closed(plan.callers, plan.warm_s)
                row.closed_tps = subject.closed(plan.callers, plan.closed_s).answered_per_s
                row.max_tps = limit(row, subject, plan, tell)
        except SetupError as exc:
            row.not_run = str(exc)
        tell(f"{peer.title}, {setting.name}: {row.not_run or f'{row.max_tps:.0f}/s at p90 ≤ {LIMIT_MS:g} ms'}")
        figures = {"max_tps": row.max_tps or 0.0, "closed_tps": row.closed_tps or 0.0}
        found.append({"setting": setting.name, **figures, **({"not_run": row.not_run} if row.not_run else {})})
    return found
