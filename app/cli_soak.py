"""`searchbar soak`: does it stay as it is, used without a pause?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.cli_load import BAR, OUT
from app.cli_train import extra

console = Console(stderr=True)


def soak(
    minutes: Annotated[float, typer.Option(min=2, help="How long.")] = 30.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 100.0,
    out: Annotated[Path, typer.Option(help="Directory for soak.csv, soak.json and soak.png.")] = OUT,
) -> None:
    """Load a server of its own with mixed Zipf traffic and end with status 1 when something grows or a request fails.

    Every five seconds: memory of the gateway and of Triton with its models, file descriptors, threads, shared memory. After a
    warm-up, a fifth of the run at three times the rate, a line is fitted to each; how far it may rise is in loadtest/soak.py.
    The server's cache is small, so that it is full by then.
    """
    with extra("dev"):
        from loadtest import soak as soaking
        from loadtest.server import started
    with started(soaking.SETTINGS, out / "soak.log") as target, Progress(*BAR, console=console) as progress:
        task = progress.add_task("seconds", total=minutes * 60)
        readings, samples = soaking.run(target, minutes, rate, lambda now: progress.update(task, completed=now))
    warm_up_s = soaking.warm_up(minutes)
    grown = soaking.growth(readings, warm_up_s)
    wrong = soaking.missed(grown, samples)
    picture = soaking.write(readings, grown, wrong, warm_up_s, out)
    table = Table(box=None, header_style="bold")
    for column in ("", "mean", "grew by", "may grow by"):
        table.add_column(column, justify="left" if not column else "right")
    for name, found in grown.items():
        table.add_row(name.replace("_", " "), f"{found.mean:,.1f}", f"{found.rise:+.2f}", f"{found.bound:.1f}")
    Console().print(table)
    console.print(f"{len(samples):,} requests in {minutes:g} minutes\n{picture}", highlight=False)
    if wrong:
        console.print("[red]" + "; ".join(wrong) + "[/red]", highlight=False)
        raise typer.Exit(1)
