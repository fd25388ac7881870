"""Runs the stated loads: the open-loop generator, and Locust as a cross-check."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from loadtest.connections import Request, Sample
from loadtest.openloop import drive
from loadtest.report import Figures, figures
from loadtest.scenarios import SEED, WARM_UP_S, Scenario
from loadtest.server import Target
from loadtest.traffic import Query, makeup

LOCUSTFILE = Path(__file__).parent / "locustfile.py"
LOCUST = Path(sys.executable).parent / "locust"
PER_USER = 5.0  # requests a second of one Locust user


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run left: every request's sample, what they add up to, and a line on the traffic."""

    samples: list[Sample]
    figures: Figures
    makeup: str


def run(scenario: Scenario, target: Target, progress: Callable[[int], None] = lambda sent: None) -> Ran:
    """Drive `target` with `scenario` after a warm-up that is not counted.

    The queries are drawn beforehand: drawing them would take processor time from the server that is measured.
    """
    warm = round(WARM_UP_S * scenario.rate_per_s)
    log = list(itertools.islice(scenario.queries(), warm + round(scenario.seconds * scenario.rate_per_s)))
    asked = [*requests(scenario, log)]
    ask = partial(drive, target.url, rate_per_s=scenario.rate_per_s, socket=target.socket)
    uvloop.run(ask(asked[:warm], duration_s=WARM_UP_S))
    lookups, cpu_s, own_s = target.lookups(), target.cpu_s(), time.process_time()
    samples = uvloop.run(ask(asked[warm:], duration_s=scenario.seconds, progress=progress))
    found = figures(
        samples,
        cpu_s=difference(target.cpu_s(), cpu_s),
        generator_s=time.process_time() - own_s,
        lookups=difference(target.lookups(), lookups),
    )
    return Ran(samples, found, makeup(log[warm:]))


def requests(scenario: Scenario, log: list[Query]) -> Iterator[Request]:
    """One request for each query of `log`, to the scenario's routes."""
    rng = random.Random(SEED)
    routes, shares = zip(*scenario.routes, strict=True)
    for query in log:
        route = rng.choices(routes, shares)[0]
        yield Request(f"/v1/{route}", json.dumps({"query": query.text}).encode())


def difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


@dataclass(frozen=True, slots=True)
class LocustRan:
    """What Locust counted itself, from when it sent a request: its users wait for answers (closed loop)."""

    requests: int
    failures: int
    per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    exit_code: int


def run_locust(scenario: Scenario, target: Target, out: Path) -> LocustRan:
    """Drive `target` with Locust headless; its CSV, HTML and log go to `out`.

    Raises:
        FileNotFoundError: Locust is not installed.
    """
    out.mkdir(parents=True, exist_ok=True)
    users = str(round(scenario.rate_per_s / PER_USER))
    stem = out / f"{scenario.name}-locust"
    command = [str(LOCUST), "-f", str(LOCUSTFILE), "--headless", "--host", target.url, "--scenario", scenario.name]
    command += ["--rate", f"{scenario.rate_per_s:g}", "-u", users, "-r", users, "-t", f"{scenario.seconds + WARM_UP_S:g}s"]
    command += ["--csv", str(stem), "--html", f"{stem}.html", "--only-summary", "--warm-up", f"{WARM_UP_S:g}"]
    with Path(f"{stem}.log").open("wb") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ}, check=False)
    with Path(f"{stem}_stats.csv").open(encoding="utf-8", newline="") as file:
        total = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    return LocustRan(
        int(total["Request Count"]),
        int(total["Failure Count"]),
        float(total["Requests/s"]),
        float(total["50%"]),
        float(total["90%"]),
        float(total["99%"]),
        done.returncode,
    )
