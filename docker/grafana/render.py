"""Draws the dashboard from its own queries, without Grafana: every panel's PromQL asked of a Prometheus, in the panel's place.

    .venv/bin/python -P docker/grafana/render.py --prometheus http://127.0.0.1:9090 --minutes 5 --out docs/dashboard.png

Prints what the queries of each panel gave. docker/grafana/record.py makes a Prometheus with something in it.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import httpx

DASHBOARD = Path(__file__).parent / "dashboards" / "searchbar.json"
POINTS = 240  # of a curve
COLUMNS = 24  # of the dashboard's grid
CELL = (0.9, 0.36)  # inches of a grid cell
UNITS = {"s": (1e3, "ms"), "bytes": (2**-30, "GiB"), "percentunit": (100, "%"), "reqps": (1, "req/s"), "short": (1, "")}


class Curve(NamedTuple):
    """One series of a query."""

    label: str
    times: list[float]  # seconds since the epoch
    values: list[float]


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, its rows' headings too."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def curves(client: httpx.Client, panel: dict[str, Any], start: float, end: float) -> list[Curve]:
    """What the panel's queries give between two times, as Grafana would label it.

    Raises:
        httpx.HTTPStatusError: Prometheus refuses a query.
    """
    found = []
    for target in panel.get("targets", ()):
        asked = {"query": target["expr"], "start": start, "end": end, "step": max(1.0, (end - start) / POINTS)}
        answer = client.get("/api/v1/query_range", params=asked).raise_for_status().json()
        for series in answer["data"]["result"]:
            label = re.sub(r"\{\{(\w+)\}\}", lambda name, of=series: of["metric"].get(name[1], ""), target["legendFormat"])
            points = [(at, float(value)) for at, value in series["values"] if value not in ("NaN", "+Inf", "-Inf")]
            if points:
                found.append(Curve(label, [at for at, _ in points], [value for _, value in points]))
    return found


def draw(found: dict[str, list[Curve]], out: Path, caption: str) -> None:
    """All panels in the dashboard's grid, as one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels())
    width, height = COLUMNS * CELL[0], (rows + 1) * CELL[1]
    figure = plt.figure(figsize=(width, height), layout="none")
    for panel in panels():
        place = panel["gridPos"]
        x, y = place["x"] / COLUMNS, 1 - (place["y"] + place["h"]) / (rows + 1)
        w, h = place["w"] / COLUMNS, place["h"] / (rows + 1)
        if panel["type"] == "row":
            figure.text(x + 0.008, y + h * 0.2, panel["title"], fontsize=15, fontweight="bold")
            continue
        axes = figure.add_axes((x + 0.03 * w + 0.02, y + 0.26 * h, 0.9 * w - 0.02, 0.6 * h))
        plot(axes, panel, found[panel["title"]])
    figure.text(0.008, 0.3 / (rows + 1), caption, fontsize=11, color="0.35")
    figure.savefig(out, dpi=72)
    plt.close(figure)


def plot(axes: Any, panel: dict[str, Any], found: list[Curve]) -> None:
    """One panel; a panel without data says so."""
    from matplotlib.dates import DateFormatter

    scale, unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    axes.set_title(panel["title"] + (f"  [{unit}]" if unit else ""), fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if not found:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color="0.5")
        axes.set(xticks=[], yticks=[])
        return
    for curve in found:
        times = [datetime.fromtimestamp(at, timezone.utc) for at in curve.times]
        axes.plot(times, [value * scale for value in curve.values], lw=1.4, label=curve.label)
    highest = max(value for curve in found for value in curve.values) * scale
    axes.set_ylim(0, 1.1 * highest or 1.0)
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.tick_params(labelsize=9)
    place = {"loc": "upper left", "bbox_to_anchor": (-0.03, -0.12), "ncols": 5}
    axes.legend(fontsize=8, frameon=False, columnspacing=1, handlelength=1, **place)


def render(prometheus: str, minutes: float, out: Path, caption: str) -> dict[str, int]:
    """Ask, draw, and count the series of each panel."""
    end = time.time()
    with httpx.Client(base_url=prometheus, timeout=30) as client:
        shown = [panel for panel in panels() if panel["type"] != "row"]
        found = {panel["title"]: curves(client, panel, end - 60 * minutes, end) for panel in shown}
    draw(found, out, caption)
    return {title: len(curves) for title, curves in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--caption", default="Drawn from the dashboard's queries by docker/grafana/render.py, not by Grafana.")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for title, series in render(given.prometheus, given.minutes, given.out, given.caption).items():
        print(f"{title}: {series or 'no'} series")


if __name__ == "__main__":
    main()
