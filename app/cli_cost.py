"""`searchbar cost`: what a query costs on rented machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli_compare import DOCS, show
from app.cli_train import extra
from app.errors import InvalidInput

TABLE = DOCS / "performance.json"


def cost(
    measured: Annotated[Path, typer.Option(help="A table that `searchbar compare` wrote.")] = TABLE,
    prices: Annotated[Path | None, typer.Option(help="Price list. [default: loadtest/prices.json]")] = None,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of its capacity that a machine is asked for.")
    ] = 0.5,
    tps: Annotated[list[str] | None, typer.Option(help="Rate measured on an instance, as g5.xlarge=NNN; repeatable.")] = None,
) -> None:
    """What a million queries cost on rented machines, from measured rates and a price list."""
    with extra("dev"):
        from loadtest import cost as costing

    listed = costing.read_prices(prices or costing.PRICES)
    rates = costing.read_rates(measured)
    given = {name: rate for name, rate in map(parse_rate, tps or ())}
    if unknown := set(given) - {instance.name for instance in listed.instances}:
        raise InvalidInput(f"not in the price list: {', '.join(sorted(unknown))}")
    rows = [["server", "instance", "$ an hour", "TPS", "$ a million", "rate from"]]
    for one in costing.costs(rates, listed, utilisation, given):
        figures = ["not measured"] * 2 if one.usd_per_million is None else [f"{one.tps:.0f}", f"{one.usd_per_million:.3f}"]
        rows.append([one.server, one.instance.name, f"{one.instance.usd_per_hour:g}", *figures, one.basis])
    show(rows)
    typer.echo(f"Prices: {listed.about}, {listed.day}, {listed.source}")
    typer.echo(f"Each machine is asked for {100 * utilisation:.0f} % of what it carries.")
    typer.echo(
        f"Rates were measured on {costing.CORES} CPU cores, load generator included, and not on the instances named: what those"
    )
    typer.echo("would carry is arithmetic, by their number of vCPUs.")
    for line in against_before(measured, rates):
        typer.echo(line)


def parse_rate(text: str) -> tuple[str, float]:
    """``g5.xlarge=1200`` in its two parts. Raises InvalidInput."""
    name, _, number = text.partition("=")
    try:
        rate = float(number)
    except ValueError:
        rate = 0.0
    if not name or not 0 < rate < 1e9:
        raise InvalidInput(f"--tps {text}: give an instance and its requests a second, as g5.xlarge=1200")
    return name, rate


def against_before(measured: Path, rates: dict[str, tuple[str, float]]) -> list[str]:
    """How ours compares with plain FastAPI, beside what the original system reported."""
    from loadtest.cost import COST_SAVED, LATENCY_SAVED, latency_saved, saved

    found = []
    if (share := saved(rates)) is not None:
        found.append(f"Cost against FastAPI + transformers: {-100 * share:+.0f} % (the original: {-100 * COST_SAVED:.0f} %).")
    latency = latency_saved(json.loads(measured.read_text(encoding="utf-8"))["servers"])
    for what, share in latency.items():
        found.append(f"Latency against it, {what}: {-100 * share:+.0f} % (the original: {-100 * LATENCY_SAVED:.0f} %).")
    return found
