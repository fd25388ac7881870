"""`searchbar compare`: beside other servers of the same model."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli_train import extra
from app.errors import InvalidInput, SetupError
from app.settings import ROOT, Settings

if TYPE_CHECKING:
    from loadtest.compare import Plan, Tell

RESULTS = ROOT / "loadtest" / "results"
DOCS = ROOT / "docs"
ANALYZER = ROOT / ".venv-analyzer"
TRITON = "triton"
BAR = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
console = Console(stderr=True)


def compare(
    only: Annotated[list[str] | None, typer.Option(help="One server alone, by name; repeat for several.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A second each, to see that all works; writes no docs.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Try each server's settings instead; later runs use the best.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Measure nothing; write docs/ from what is in --out.")] = False,
    out: Annotated[Path, typer.Option(help="Directory for JSON, CSV and the servers' logs.")] = RESULTS,
    venv: Annotated[Path, typer.Option(help="Virtual environment of perf_analyzer (`make analyzer`).")] = ANALYZER,
) -> None:
    """Serve the embedder by other frameworks and by Searchbar, load them in turn, and compare.

    `make compare` installs the others first. Prints requests a second at p90 ≤ 25 ms, latency at stated rates, processor time
    and memory; a run of all writes docs/performance.md and ends with status 1 when Searchbar misses what it promises. A run of
    some replaces their figures in --out. Leave the machine alone meanwhile: half an hour.
    """
    with extra("dev"):
        from loadtest import compare_report
        from loadtest.compare import QUICK, TUNE, Plan
        from loadtest.peers.roster import PEERS, TRIED

    if unknown := [name for name in only or () if name not in (*PEERS, TRITON)]:
        raise InvalidInput(f"no server of that name: {', '.join(unknown)}; there are {', '.join((*PEERS, TRITON))}")
    names, plan = only or [*PEERS, TRITON], QUICK if quick else Plan()
    if tune:
        try_settings([name for name in names if name != TRITON], QUICK if quick else TUNE, out, TRIED)
        return
    body = compare_report.read(out) if report else measure(names, plan, out, venv)
    show(compare_report.rows_of(body))
    verdicts = compare_report.verdicts(body)
    for what, found, held in verdicts:
        console.print(f"{'[green]held[/green]' if held else '[red]missed[/red]'} {what}: {found}", highlight=False)
    if quick or (only and not report):
        return
    compare_report.publish(body, DOCS, TRIED)
    console.print(f"written: {DOCS / 'performance.md'}, performance.json, compare.png")
    if not all(held for *_, held in verdicts):
        raise typer.Exit(1)


def measure(names: list[str], plan: Plan, out: Path, venv: Path) -> dict[str, Any]:
    """Measure the servers of these names, save, and return all that is known."""
    from loadtest import compare_report
    from loadtest.compare import Reference
    from loadtest.compare import measure as measure_in_turn
    from loadtest.peers.roster import PEERS

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the server under test is stopped too
    reference = Reference(Settings().model_repository)
    out.mkdir(parents=True, exist_ok=True)
    body = compare_report.read(out) if (out / "compare.json").exists() else {}
    peers = [PEERS[name] for name in names if name != TRITON]
    with Progress(*BAR, console=console) as progress:
        task = progress.add_task("comparing", total=plan.rounds * bool(peers) + (TRITON in names))

        def tell(line: str) -> None:
            progress.console.print(line, highlight=False)

        if TRITON in names:
            progress.update(task, description=TRITON)
            rows, top = measure_triton(venv, plan, out, tell)
            body = compare_report.merged(body, rows, top)
            compare_report.save(body, out)
            progress.update(task, advance=1)
        progress.update(task, description="in turn")
        for measured in measure_in_turn(peers, plan, reference, out, tell) if peers else ():
            body = compare_report.merged(body, [asdict(row) for row in measured], None)
            compare_report.save(body, out)
            progress.update(task, advance=1)
    return body


def measure_triton(venv: Path, plan: Plan, out: Path, tell: Tell) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Triton's row and its pairs with the gateway; a row that says why when it cannot be run."""
    from loadtest.ceiling import ceiling, not_run

    try:
        row, found = ceiling(venv, plan, out, tell)
    except SetupError as exc:
        tell(str(exc))
        return [asdict(not_run(str(exc)))], None
    return [asdict(row)], found


def try_settings(names: list[str], plan: Plan, out: Path, tried: Path) -> None:
    """Measure every setting of these servers and keep what each carried in `tried`."""
    from loadtest.compare import tune as tune_one
    from loadtest.peers.roster import PEERS

    for name in names:
        if len(PEERS[name].settings) < 2:
            continue
        found = tune_one(PEERS[name], plan, out, lambda line: console.print(line, highlight=False))
        body = json.loads(tried.read_text(encoding="utf-8")) if tried.exists() else {"peers": {}}
        body = {"measured": datetime.now().date().isoformat(), "peers": {**body["peers"], name: found}}
        tried.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def show(rows: list[list[str]]) -> None:
    header, *rest = rows
    found = Table(box=None, header_style="bold")
    for column in header:
        found.add_column(column)
    for row in rest:
        found.add_row(*row)
    Console().print(found)
