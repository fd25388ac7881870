"""`searchbar tune`: measure how Triton should serve on this machine."""

from __future__ import annotations

import asyncio
import difflib
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli_train import extra
from app.errors import SetupError
from app.settings import ROOT, Settings

ANALYZER = ROOT / "triton" / "analyzer"
BAR = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
console = Console(stderr=True)


def tune(
    quick: Annotated[bool, typer.Option("--quick", help="One small measurement of each sort, to see that all works.")] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Write the last run's chosen values into triton/models; measures nothing.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory for tables and plots.", show_default="triton/analyzer/results; quick: var")
    ] = None,
    venv: Annotated[Path, typer.Option(help="Virtual environment of Model Analyzer (`make analyzer`).")] = (
        ROOT / ".venv-analyzer"
    ),
) -> None:
    """Find instance counts, batch sizes and queue delays for Triton.

    Profiles the embedder and the speller under simulated traffic with NVIDIA's Model Analyzer and perf_analyzer, on a copy of
    the model repository, and prints what it would change. Fails when the chosen setting of the embedder serves less than 1.2
    times as much at p90 ≤ 25 ms as one instance without batching, measured in turn in the same run. Leave the machine alone
    meanwhile.
    """
    repository = Settings().model_repository
    work_dir = ROOT / "var" / ("analyzer-quick" if quick else "analyzer")
    results = out or (work_dir / "results" if quick else ANALYZER / "results")
    if adopt:
        for path, (_, new) in changes(repository, results).items():
            path.write_text(new, encoding="utf-8")
            typer.echo(f"written: {path}")
        return
    measure(repository, work_dir, results, venv, quick)


def measure(repository: Path, work_dir: Path, results: Path, venv: Path, quick: bool) -> None:
    """Run, report, and exit with status 1 when the choice is not good enough."""
    with extra("dev"):
        from training.tuning import plan as plans
        from training.tuning import report
        from training.tuning.run import Places, run

    plan = plans.quick() if quick else plans.full()
    demo = ROOT / "app" / "data" / "demo.csv"
    places = Places(repository, demo, ANALYZER, work_dir, venv)
    began = time.monotonic()
    with Progress(*BAR, console=console) as progress:
        task = progress.add_task("tuning", total=plan.measurements)

        def tell(line: str) -> None:
            progress.console.print(line, highlight=False)
            progress.update(task, advance=" in flight: " in line)

        outcome = asyncio.run(run(plan, places, tell))
    minutes = (time.monotonic() - began) / 60
    report.write(outcome, work_dir, results, minutes)
    typer.echo("\n".join(report.summary(outcome)))
    for line in outcome.missing:
        console.print(f"[yellow]not measured[/yellow]: {line}")
    for path, (old, new) in changes(repository, results).items():
        typer.echo("".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(path), f"{path} (tuned)")))
    console.print(f"{minutes:.1f} minutes; tables and plots: {results}")
    if quick:
        console.print("A quick run's figures decide nothing.")
        return
    readme = ANALYZER / "README.md"
    readme.write_text(
        report.replace_section(readme.read_text(encoding="utf-8"), report.section(outcome, minutes)), encoding="utf-8"
    )
    if wrong := report.judge(outcome.verdicts):
        raise SetupError(f"{wrong}: is the machine busy with something else?")
    console.print("`searchbar tune --adopt` writes the chosen values into triton/models.")


def changes(repository: Path, results: Path) -> dict[Path, tuple[str, str]]:
    """Of each configuration that the chosen settings change: its text and what it becomes."""
    from training.tuning.report import SWEEP, read_chosen
    from training.tuning.repository import config_file
    from training.tuning.settings import adopt

    date, settings = read_chosen(results)
    found = {}
    for model, setting in settings.items():
        path = config_file(repository, model)
        old = path.read_text(encoding="utf-8")
        found[path] = (old, adopt(old, setting, f"triton/analyzer/results/{SWEEP}, {date} (`make tune`)."))
    return found
