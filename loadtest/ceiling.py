"""Triton alone under NVIDIA's `perf_analyzer`, and the gateway in front of the same server, in turn."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from app.triton_server import Ports
from loadtest.compare import LIMIT_MS, Plan, Row, Subject, Tell, queries
from loadtest.peers.roster import INT8, OURS
from loadtest.run import difference
from loadtest.server import Target, started
from training.tuning.perf_analyzer import PerfAnalyzer, Point
from training.tuning.traffic import save

MODEL = "embedder"
IN_FLIGHT = (2, 4, 8, 16, 32, 64)
CALLERS = (16, 32, 64, 128)
QUERIES = 5000
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """The same thing measured of Triton alone and through the gateway, round by round."""

    triton: list[float]
    ours: list[float]

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.triton), statistics.median(self.ours)


class Alone:
    """A Triton of its own process, driven by `perf_analyzer` with single queries."""

    def __init__(self, analyzer: PerfAnalyzer, target: Target, ports: Ports, data: Path) -> None:
        self._analyzer, self.target, self._ports, self._data = analyzer, target, ports, data
        self.address = f"127.0.0.1:{ports.grpc}"
        save(data, [{"QUERY": [text]} for text in itertools.islice(queries(), QUERIES)])

    def at(self, in_flight: int, seconds: float) -> Point:
        """So many requests in flight, in three windows that take about `seconds` together."""
        requests = round((350 if in_flight == 1 else 800) * seconds / 3)
        return asyncio.run(self._analyzer.measure(MODEL, self.address, self._data, in_flight, requests))

    def at_rate(self, per_s: float, seconds: float) -> Point:
        return asyncio.run(self._analyzer.measure_rate(MODEL, self.address, self._data, per_s, max(seconds / 3, 1.0)))

    def answered(self) -> float:
        """Requests that the model has answered so far."""
        text = httpx.get(f"http://127.0.0.1:{self._ports.metrics}/metrics", timeout=10).text
        lines = (line for line in text.splitlines() if line.startswith("nv_inference_request_success{"))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if f'model="{MODEL}"' in line)


def ceiling(venv: Path, plan: Plan, logs: Path, tell: Tell, rounds: int = ROUNDS) -> tuple[Row, dict[str, Any]]:
    """Triton's row, and how the gateway in front of it compares.

    Raises:
        SetupError: perf_analyzer or a server did not start.
    """
    analyzer = PerfAnalyzer.prepare(venv)
    ports = Ports.free()
    command = [sys.executable, "-m", "loadtest.peers.triton_alone", "--http", "{port}"]
    command += ["--grpc", str(ports.grpc), "--metrics", str(ports.metrics)]
    with started({}, logs / "triton.log", tuple(command), "/v2/health/ready") as target:
        alone = Alone(analyzer, target, ports, logs / f"{MODEL}.json")
        row = swept(alone, plan, tell)
        environment = {**OURS.settings[0].environment, "SEARCHBAR_TRITON": alone.address}
        with started(environment, logs / "gateway.log") as gateway:
            found = in_turn(alone, Subject(OURS, gateway), row, plan, rounds, tell)
    return row, found


def not_run(why: str) -> Row:
    """The row of a Triton that could not be driven here."""
    measured = datetime.now().isoformat(" ", "minutes")
    return Row("triton", "f", "Triton alone, perf_analyzer", INT8, "as shipped, gRPC, single queries", measured, not_run=why)


def swept(alone: Alone, plan: Plan, tell: Tell) -> Row:
    """What Triton carries by itself, over the requests in flight."""
    row = not_run("")
    alone.at(8, plan.warm_s)
    points = []
    for in_flight in IN_FLIGHT:
        before, answered = alone.target.cpu_s(), alone.answered()
        point = alone.at(in_flight, plan.seconds)
        cpu_s = sum(difference(alone.target.cpu_s(), before).values())
        step = {"in_flight": in_flight, "answered_per_s": point.throughput, **latencies(point)}
        step["cpu_s_per_1000"] = 1000 * cpu_s / max(alone.answered() - answered, 1)
        points.append(step)
        tell(f"{row.title}: {in_flight} in flight {point.throughput:.0f}/s, p90 {point.p90_ms:.1f} ms")
    row.steps = points
    row.closed_tps = max(step["answered_per_s"] for step in points)
    best = max((s for s in points if s["p90_ms"] <= LIMIT_MS), key=lambda s: s["answered_per_s"], default=None)
    row.max_tps, row.cpu_s_per_1000 = (best["answered_per_s"], best["cpu_s_per_1000"]) if best else (0.0, None)
    for rate in plan.rates:
        point = alone.at_rate(rate, plan.seconds)
        wrong = [] if point.p90_ms <= LIMIT_MS else [f"p90 {point.p90_ms:.1f} ms, limit {LIMIT_MS:g} ms"]
        if point.throughput < 0.98 * rate:
            wrong.append(f"answered {point.throughput:.0f}/s of {rate:g}/s")
        row.at[f"{rate:g}"] = {"rate": rate, "missed": wrong, "answered_per_s": point.throughput, **latencies(point)}
        tell(f"{row.title}: {rate:.0f}/s p90 {point.p90_ms:.1f} ms, {'; '.join(wrong) or 'held'}")
    row.memory_mib = alone.target.memory() / 2**20
    return row


def in_turn(alone: Alone, subject: Subject, row: Row, plan: Plan, rounds: int, tell: Tell) -> dict[str, Any]:
    """Throughput at each one's best, and p50 of a single caller, of both in turn: a machine that drifts drifts for both."""
    best = max(row.steps, key=lambda step: step["answered_per_s"])["in_flight"]
    subject.closed(32, plan.warm_s)
    callers = max(CALLERS, key=lambda count: subject.closed(count, plan.closed_s / 2).answered_per_s)
    throughput, p50 = Pair([], []), Pair([], [])
    for number in range(rounds):
        throughput.triton.append(alone.at(best, plan.seconds).throughput)
        throughput.ours.append(subject.closed(callers, plan.seconds).answered_per_s)
        p50.triton.append(alone.at(1, plan.closed_s).p50_ms)
        p50.ours.append(subject.closed(1, plan.closed_s).p50_ms)
        tell(
            f"round {number + 1}: Triton {throughput.triton[-1]:.0f}/s, through the gateway {throughput.ours[-1]:.0f}/s; "
            f"p50 alone {p50.triton[-1]:.2f} and {p50.ours[-1]:.2f} ms"
        )
    (their_tps, our_tps), (their_p50, our_p50) = throughput.medians, p50.medians
    row.alone = {"p50_ms": their_p50}
    return {
        "in_flight": best,
        "callers": callers,
        "rounds": {"tps": asdict(throughput), "p50_ms": asdict(p50)},
        "triton_tps": their_tps,
        "ours_tps": our_tps,
        "ratio": our_tps / their_tps,
        "triton_p50_ms": their_p50,
        "ours_p50_ms": our_p50,
        "added_p50_ms": our_p50 - their_p50,
    }


def latencies(point: Point) -> dict[str, float]:
    return {"p50_ms": point.p50_ms, "p90_ms": point.p90_ms, "p99_ms": point.p99_ms}
