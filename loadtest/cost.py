"""What a million queries cost, from measured rates and a price list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import InvalidInput

PRICES = Path(__file__).parent / "prices.json"
CORES = 2  # that the rates were measured on, the load generator included
BEFORE, OURS = "fastapi", "ours"
BUSY = "busy"  # a load of a comparison: the first of these shares of what (a) carried in the round that it still holds
BUSY_SHARES = (0.9, 0.8, 0.7, 0.6)
COST_SAVED, LATENCY_SAVED = 0.73, 0.63  # what the original system reported of its own before and after


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine for rent.

    Attributes:
        gpu: its name; empty when it has none.
    """

    name: str
    vcpus: int
    usd_per_hour: float
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class Prices:
    """A price list and where it is from."""

    instances: tuple[Instance, ...]
    source: str
    about: str
    day: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What one server costs on one instance.

    Attributes:
        tps: requests a second at p90 within the limit; None when nobody measured it.
        basis: where `tps` comes from.
        usd_per_million: None when `tps` is.
    """

    server: str
    instance: Instance
    tps: float | None
    basis: str
    usd_per_million: float | None


def read_prices(path: Path = PRICES) -> Prices:
    """Raises InvalidInput when the list cannot be read."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        instances = tuple(Instance(name, **row) for name, row in body["instances"].items())
        return Prices(instances, body["source"], body["about"], body["date"])
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise InvalidInput(f"{path} is no price list: {exc}") from exc


def read_rates(path: Path) -> dict[str, tuple[str, float]]:
    """Of each server that was measured: its name in prose and the requests a second it carries.

    Raises:
        InvalidInput: the file is missing or is not what `searchbar compare` writes.
    """
    try:
        servers: Sequence[Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["servers"]
        return {row["name"]: (row["title"], float(row["max_tps"])) for row in servers if row["max_tps"]}
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise InvalidInput(f"{path} is no measured table: run `make compare` ({exc})") from exc


def per_million(usd_per_hour: float, tps: float, utilisation: float) -> float:
    """US dollars for a million queries on a machine that carries `tps`, busy for a share `utilisation` of what it carries."""
    return usd_per_hour / (3600 * tps * utilisation) * 1e6


def costs(
    rates: Mapping[str, tuple[str, float]], prices: Prices, utilisation: float, given: Mapping[str, float] = {}
) -> list[Cost]:
    """Every measured server on every instance without a GPU, and ours on those with one.

    Args:
        given: requests a second of ours measured elsewhere, by the instance's name.
    """
    found = []
    for instance in prices.instances:
        for name, (title, tps) in rates.items():
            if instance.gpu and name != OURS:
                continue
            rate, basis = rated(instance, tps, given if name == OURS else {})
            usd = None if rate is None else per_million(instance.usd_per_hour, rate, utilisation)
            found.append(Cost(title, instance, rate, basis, usd))
    return found


def rated(instance: Instance, tps: float, given: Mapping[str, float]) -> tuple[float | None, str]:
    """Requests a second on an instance and where the figure comes from; no figure of a GPU is made up."""
    if instance.name in given:
        return given[instance.name], "given by --tps"
    if instance.gpu:
        return None, "not measured"
    if instance.vcpus == CORES:
        return tps, f"measured here on {CORES} cores"
    return tps * instance.vcpus / CORES, f"arithmetic: {instance.vcpus / CORES:g} × the rate of {CORES} cores"


def saved(rates: Mapping[str, tuple[str, float]]) -> float | None:
    """Share of the cost of (a) that ours saves on the same machine at the same utilisation; None when one is missing."""
    if BEFORE not in rates or OURS not in rates:
        return None
    return 1 - rates[BEFORE][1] / rates[OURS][1]


def latency_saved(servers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of (a)'s latency that ours saves: p50 of a lone caller, p50 and p90 at each rate that both hold, (a)'s own last."""
    rows = {row["name"]: row for row in servers if not row["not_run"]}
    if BEFORE not in rows or OURS not in rows:
        return {}
    before, ours = rows[BEFORE], rows[OURS]
    found = {"p50, one caller": 1 - ours["alone"]["p50_ms"] / before["alone"]["p50_ms"]}
    for rate, theirs in before["at"].items():
        mine = ours["at"].get(rate)
        if mine and not theirs["missed"] and not mine["missed"]:
            for quantile in ("p50", "p90"):
                found[f"{quantile} at {named(rate)}"] = 1 - mine[f"{quantile}_ms"] / theirs[f"{quantile}_ms"]
    return found


def named(rate: str) -> str:
    """A load of a comparison in words."""
    return "(a)'s own load" if rate == BUSY else f"{rate}/s"
