"""One run of `searchbar tune`: simulated traffic on a copy of the repository, all measurements, the choice, the report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import SetupError
from training.tuning import repository
from training.tuning.choose import Candidate, Trial, Verdict, choose, compare
from training.tuning.model_analyzer import COMMAND, ModelAnalyzer, Row
from training.tuning.perf_analyzer import PerfAnalyzer, Point
from training.tuning.plan import NAIVE_NAME, Plan, Sweep
from training.tuning.server import Tuned, serving
from training.tuning.traffic import write_inputs

Tell = Callable[[str], None]
SHORTEST_S = 20.0  # Model Analyzer needs some seconds to start and to write its reports


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run finds and puts things.

    Attributes:
        source: the model repository, read only.
        catalogue: what the traffic asks for.
        profiles: directory of the Model Analyzer profiles.
        work_dir: scratch, in the checkout's `var/`.
        venv: virtual environment of Model Analyzer and perf_analyzer.
    """

    source: Path
    catalogue: Path
    profiles: Path
    work_dir: Path
    venv: Path


@dataclass(slots=True)
class Outcome:
    """What was measured.

    Attributes:
        trials: of the sweeps, by target model.
        chosen: of each target.
        verdicts: of the targets that were compared with the naive setting.
        rows: of Model Analyzer.
        missing: what could not be measured, one line each.
    """

    trials: dict[str, list[Trial]] = field(default_factory=dict)
    chosen: dict[str, Candidate] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


async def run(plan: Plan, places: Places, tell: Tell) -> Outcome:
    """Measures everything in the plan.

    Args:
        tell: called with a line for each step.

    Raises:
        SetupError: a tool is missing, the server does not start, or a sweep's models cannot be measured at all.
    """
    began = time.monotonic()
    tool = PerfAnalyzer.prepare(places.venv)
    if not (places.venv / COMMAND).is_file():
        raise SetupError(f"there is no Model Analyzer in {places.venv}: run `make analyzer`")
    shutil.rmtree(places.work_dir / "model-analyzer", ignore_errors=True)  # an earlier run's
    copy = places.work_dir / "models"
    repository.copy_repository(places.source, copy)
    tell(f"traffic: {plan.queries} queries of {places.catalogue.name}")
    write_inputs(places.catalogue, places.work_dir / "inputs", plan.queries)
    outcome = Outcome()
    async with serving(copy, places.source.parent / "backends") as server:
        for sweep in plan.sweeps:
            await Bench(server, tool, places, plan.requests, tell, outcome).run(sweep)
        # A fresh copy: Model Analyzer starts from what the repository says.
        repository.copy_repository(places.source, copy)
        for name in plan.profiles:
            left_s = plan.length_s - (time.monotonic() - began)
            if left_s < SHORTEST_S:
                outcome.missing.append(f"{name}.yaml: no time was left")
                continue
            await server.unload()
            analyzer = ModelAnalyzer((places.venv / COMMAND).absolute(), tool, places.work_dir, server.ports)
            tell(f"Model Analyzer: {name}.yaml, {left_s:.0f} s at most")
            profile, out = places.profiles / f"{name}.yaml", places.work_dir / "model-analyzer" / name
            try:
                outcome.rows += await analyzer.profile(profile, out, left_s)
            except SetupError as exc:
                outcome.missing.append(str(exc).splitlines()[0])
                tell(str(exc))
    return outcome


@dataclass(slots=True)
class Bench:
    """Sweeps on one running server."""

    server: Tuned
    tool: PerfAnalyzer
    places: Places
    requests: int
    tell: Tell
    outcome: Outcome

    async def run(self, sweep: Sweep) -> None:
        """Searches, chooses, and measures the chosen and the naive setting in turn."""
        trials = self.outcome.trials.setdefault(sweep.target, [])
        for candidate in sweep.candidates:
            trials.append(await self.trial(sweep, candidate, 0, sweep.concurrencies))
        chosen = choose([trial for trial in trials if trial.candidate.name != NAIVE_NAME]).candidate
        self.outcome.chosen[sweep.target] = chosen
        naive = sweep.candidates[0]
        for number in range(1, sweep.rounds + 1):
            for candidate in (naive, chosen):
                trials.append(await self.trial(sweep, candidate, number, sweep.compared_at))
        if sweep.rounds:
            self.outcome.verdicts[sweep.target] = compare(trials, naive.name, chosen.name)

    async def trial(self, sweep: Sweep, candidate: Candidate, number: int, concurrencies: tuple[int, ...]) -> Trial:
        """One candidate, loaded anew. A concurrency that perf_analyzer fails at is left out and told."""
        repository.write(self.places.source, self.places.work_dir / "models", candidate.settings)
        await self.server.load([sweep.target])
        points: list[Point] = []
        for concurrency in concurrencies:
            data, url = self.places.work_dir / "inputs" / f"{sweep.target}.json", self.server.triton.grpc_url
            try:
                point = await self.tool.measure(sweep.target, url, data, concurrency, self.requests)
            except SetupError as exc:
                self.outcome.missing.append(f"{sweep.target}, {candidate.name}, {concurrency} in flight: not measured")
                self.tell(str(exc))
                continue
            points.append(point)
            figures = f"{point.throughput:,.0f}/s, p90 {point.p90_ms:.1f} ms"
            self.tell(f"{sweep.target} · {candidate.name} · {concurrency} in flight: {figures}")
        return Trial(sweep.target, candidate, number, tuple(points))
