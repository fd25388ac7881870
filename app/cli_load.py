"""`searchbar load`: does it hold the loads that it states?"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.cli_train import extra
from app.errors import InvalidInput
from app.settings import ROOT

if TYPE_CHECKING:
    from loadtest.overload import Overload, Overloaded
    from loadtest.run import LocustRan, Ran
    from loadtest.scenarios import Scenario

OUT = ROOT / "var" / "load"
BAR = (
    TextColumn("{task.description}"),
    BarColumn(),
    TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
    TimeRemainingColumn(),
)
WIDE = 200  # columns where no terminal says how many there are
console = Console(stderr=True)


def load(
    scenarios: Annotated[list[str] | None, typer.Argument(help="Loads by name; all stated ones when none is given.")] = None,
    url: Annotated[str | None, typer.Option(help="A running server; unset starts one for each load, set up for it.")] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="How long, instead of the stated time.")] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=1, help="Requests a second instead of those stated; where an overload's ramp begins."),
    ] = None,
    locust: Annotated[
        bool, typer.Option("--locust", help="Each load once more by Locust, headless, as a cross-check.")
    ] = False,
    socket: Annotated[
        bool,
        typer.Option("--socket", help="By a Unix-domain socket, as a proxy on the same machine may ask (SEARCHBAR_SOCKET)."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Directory for the HTML page, picture, CSV and JSON of each load.")] = OUT,
    list_: Annotated[bool, typer.Option("--list", help="Print the stated loads and end.")] = False,
) -> None:
    """Drive the server with stated loads and end with status 1 when one is not held.

    The generator is open-loop: requests are due at fixed times whatever becomes of earlier ones, and latency counts from when a
    request was due, so that a server which stalls is charged for all who would have waited. It shares this machine's cores
    with the server it measures. Leave the machine alone meanwhile.

        searchbar load embed-distinct

        searchbar load --seconds 10 --url http://127.0.0.1:8080 search-zipf

    An overload first finds the rate that the server answers in time, and does so again, then asks for three times as much and
    for nine tenths of it, three times in turn, and looks at what was refused, how soon, and at the rest. The server has the
    settings of this shell.

        SEARCHBAR_REALTIME=true searchbar load overload
    """
    with extra("dev"):
        from loadtest.overload import OVERLOADS, shortened
        from loadtest.scenarios import STATED
    known: dict[str, Scenario | Overload] = {**STATED, **OVERLOADS}
    if list_:
        for one in known.values():
            typer.echo(f"{one.name:20} {one.says}")
        return
    if unknown := [name for name in scenarios or () if name not in known]:
        raise InvalidInput(f"no load of that name: {', '.join(unknown)}; there are {', '.join(known)}")
    if socket and (url or locust):
        raise InvalidInput("--socket is for servers that are started here, and not for Locust: leave out --url and --locust")
    table, held = results_table(locust), True
    for name in scenarios or known:
        if name in OVERLOADS:
            held &= exceed(shortened(OVERLOADS[name], seconds, rate), url, socket, out, table)
            continue
        stated = STATED[name]
        asked = replace(stated, seconds=seconds or stated.seconds, rate_per_s=rate or stated.rate_per_s)
        held &= hold(asked, url, socket, locust, out, table)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)
    if not held:
        raise typer.Exit(1)


def hold(scenario: Scenario, url: str | None, socket: bool, locust: bool, out: Path, table: Table) -> bool:
    """Run one load, write its report, add its row; whether it was held."""
    from loadtest.report import missed, write
    from loadtest.run import run, run_locust
    from loadtest.server import Target, started

    console.print(f"[bold]{scenario.name}[/bold]: {scenario.says}", highlight=False)
    settings = {**scenario.environment(), "SEARCHBAR_LOG_LEVEL": "warning"}
    with ExitStack() as stack:
        log = out / f"{scenario.name}.log"
        target = Target(url) if url else stack.enter_context(started(settings, log, by_socket=socket))
        progress = stack.enter_context(Progress(*BAR, console=console))
        task = progress.add_task("requests", total=round(scenario.rate_per_s * scenario.seconds))
        ran = run(scenario, target, lambda sent: progress.update(task, completed=sent))
        checked = run_locust(scenario, target, out) if locust else None
    wrong = missed(scenario, ran.figures)
    if checked and checked.exit_code:
        wrong.append(f"Locust ended with {checked.exit_code}: {out / f'{scenario.name}-locust.log'}")
    makeup = f"{ran.makeup}; {target.way}"
    page = write(scenario, ran.samples, ran.figures, makeup, out)
    console.print(f"{makeup}\n{page}", highlight=False)
    add_row(table, scenario, ran, checked, wrong)
    return not wrong


def exceed(overload: Overload, url: str | None, socket: bool, out: Path, table: Table) -> bool:
    """Run one overload, write its report, add its row; whether it was held."""
    from loadtest.overload import missed_overload, run_overload
    from loadtest.overload_report import lines, write_overload
    from loadtest.server import Target, started

    console.print(f"[bold]{overload.name}[/bold]: {overload.says}", highlight=False)
    settings = {**overload.load.environment(), "SEARCHBAR_LOG_LEVEL": "warning"}
    with ExitStack() as stack:
        log = out / f"{overload.name}.log"
        target = Target(url) if url else stack.enter_context(started(settings, log, by_socket=socket))
        status = stack.enter_context(console.status("warming up"))
        found = run_overload(overload, target, status.update)
    wrong = missed_overload(overload, found)
    for name, value in lines(found):
        console.print(f"{name}: {value}", highlight=False)
    console.print(str(write_overload(overload, found, out)), highlight=False)
    add_overload_row(table, overload, found, wrong)
    return not wrong


def add_overload_row(table: Table, overload: Overload, found: Overloaded, wrong: list[str]) -> None:
    verdict = "[red]" + "; ".join(wrong) + "[/red]" if wrong else "[green]held[/green]"
    bursts = [one.burst for one in found.rounds]
    blank = [""] * (len(table.columns) - 2)
    if bursts:
        blank[:2] = [f"{bursts[0].rate_per_s:.0f}", f"{median(burst.goodput_per_s for burst in bursts):.0f}"]
        blank[3] = f"{median(burst.p90_ms for burst in bursts):.1f}"
        blank[6] = str(sum(sum(burst.failures.values()) for burst in bursts))
    table.add_row(overload.name, *blank, verdict)


def results_table(locust: bool) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("load", "rate", "answered/s", "p50", "p90", "p99", "max ms", "failures", "cache", "cpu ms"):
        table.add_column(column, justify="left" if column == "load" else "right")
    if locust:
        table.add_column("Locust p50/p90", justify="right")
    table.add_column("verdict")
    return table


def add_row(table: Table, scenario: Scenario, ran: Ran, checked: LocustRan | None, wrong: list[str]) -> None:
    found = ran.figures
    table.add_row(
        scenario.name,
        f"{scenario.rate_per_s:g}",
        f"{found.answered_per_s:.0f}",
        *(f"{value:.1f}" for value in (found.p50_ms, found.p90_ms, found.p99_ms)),
        f"{found.max_ms:.0f}",
        str(sum(found.failures.values())),
        "off" if found.hit_rate is None else f"{100 * found.hit_rate:.0f} %",
        f"{sum(found.cpu_ms.values()):.2f}" if found.cpu_ms else "",
        *([f"{checked.p50_ms:g}/{checked.p90_ms:g}"] if checked else []),
        "[red]" + "; ".join(wrong) + "[/red]" if wrong else "[green]held[/green]",
    )
