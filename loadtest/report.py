"""What a load run says: figures, a verdict, CSV, a picture and a page."""

from __future__ import annotations

import base64
import csv
import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.connections import Sample
from loadtest.openloop import priority
from loadtest.scenarios import Scenario

PERCENTS = (50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of one load. Latencies in ms, from when a request was due.

    Attributes:
        answered_per_s: answers with status 200 in a second of the run.
        service_p90_ms: p90 from when requests were sent; far below `p90_ms`, they queued in the generator.
        late_p90_ms: how long after its due time a request left, p90.
        failures: what became of requests without a 200, and how often.
        hit_rate: share of cache lookups answered from memory or by joining a call; None without a cache.
        cpu_ms: processor time a request by process name; empty for a server that is not ours.
        generator_ms: processor time a request of the generator itself, on the same cores.
    """

    requests: int
    answered_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    service_p90_ms: float
    late_p90_ms: float
    failures: dict[str, int] = field(default_factory=dict)
    hit_rate: float | None = None
    cpu_ms: dict[str, float] = field(default_factory=dict)
    generator_ms: float = 0.0


def figures(
    samples: Sequence[Sample],
    *,
    cpu_s: Mapping[str, float] | None = None,
    generator_s: float = 0.0,
    lookups: Mapping[str, float] | None = None,
) -> Figures:
    """Figures of the samples, failures' latencies included."""
    count = max(len(samples), 1)
    latency = np.array([sample.latency_ms for sample in samples] or [np.nan])
    service = np.array([sample.service_ms for sample in samples] or [np.nan])
    wall_s = max(sample.done for sample in samples) - min(sample.due for sample in samples) if samples else np.nan
    p50, p90, p99, worst = (float(value) for value in np.percentile(latency, PERCENTS))
    wrong = Counter(str(sample.status) if sample.status else sample.error for sample in samples if sample.status != 200)
    asked = sum(lookups.values()) if lookups else 0.0
    return Figures(
        requests=len(samples),
        answered_per_s=sum(sample.status == 200 for sample in samples) / wall_s,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        max_ms=worst,
        service_p90_ms=float(np.percentile(service, 90)),
        late_p90_ms=float(np.percentile(latency - service, 90)),
        failures=dict(wrong.most_common()),
        hit_rate=1 - lookups.get("miss", 0.0) / asked if lookups and asked else None,
        cpu_ms={name: 1000 * used / count for name, used in sorted((cpu_s or {}).items())},
        generator_ms=1000 * generator_s / count,
    )


def missed(scenario: Scenario, found: Figures) -> list[str]:
    """What the run did not hold; empty when it held everything."""
    wrong = []
    if not found.p90_ms <= scenario.p90_ms:
        wrong.append(f"p90 {found.p90_ms:.1f} ms, limit {scenario.p90_ms:g} ms")
    if found.failures:
        kinds = ", ".join(f"{count} × {kind}" for kind, count in found.failures.items())
        wrong.append(f"failures: {kinds}")
    if found.answered_per_s < 0.98 * scenario.rate_per_s:
        wrong.append(f"answered {found.answered_per_s:.0f}/s of {scenario.rate_per_s:g}/s")
    return wrong


def by_second(samples: Sequence[Sample]) -> list[dict[str, float]]:
    """A row for each second of the run: requests due in it, failures, quantiles."""
    start = min((sample.due for sample in samples), default=0.0)
    seconds: dict[int, list[Sample]] = {}
    for sample in samples:
        seconds.setdefault(int(sample.due - start), []).append(sample)
    rows = []
    for second, some in sorted(seconds.items()):
        p50, p90, p99, worst = np.percentile([sample.latency_ms for sample in some], PERCENTS)
        failed = sum(sample.status != 200 for sample in some)
        row = {"second": second, "requests": len(some), "failures": failed, "p50_ms": p50, "p90_ms": p90, "p99_ms": p99}
        rows.append({name: round(float(value), 3) for name, value in {**row, "max_ms": worst}.items()})
    return rows


def write(scenario: Scenario, samples: Sequence[Sample], found: Figures, makeup: str, out: Path) -> Path:
    """Write NAME.csv, NAME.json, NAME.png and NAME.html into `out`; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    rows = by_second(samples)
    with (out / f"{scenario.name}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else ["second"])
        table.writeheader()
        table.writerows(rows)
    wrong = missed(scenario, found)
    body = {"scenario": asdict(scenario), "generator": priority(), "traffic": makeup, "figures": asdict(found), "missed": wrong}
    (out / f"{scenario.name}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    picture = out / f"{scenario.name}.png"
    plot(scenario, samples, rows, picture)
    page = out / f"{scenario.name}.html"
    page.write_text(as_page(scenario, found, wrong, makeup, picture), encoding="utf-8")
    return page


def plot(scenario: Scenario, samples: Sequence[Sample], rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Latency over time, second by second, and how many requests took how long; the limit as a line."""
    from training.evaluation.plots import canvas

    figure, (over_time, spread), colours = canvas(10, 3.6, 2)
    seconds = [row["second"] for row in rows]
    for name, colour, label in (("p99_ms", "line", "p99"), ("p90_ms", "accent", "p90"), ("p50_ms", "ink", "p50")):
        over_time.plot(seconds, [row[name] for row in rows], color=colours[colour], linewidth=1.6, label=label)
    shares = np.linspace(0, 99.9, 400)
    spread.plot(
        shares, np.percentile([sample.latency_ms for sample in samples], shares), color=colours["accent"], linewidth=1.6
    )
    for axis in (over_time, spread):
        axis.axhline(scenario.p90_ms, color=colours["soft"], linewidth=1, linestyle=(0, (4, 3)))
        axis.set_yscale("log")
        axis.grid(color=colours["sunken"], which="major")
        axis.set_axisbelow(True)
    spread.plot([90], [scenario.p90_ms], marker="v", color=colours["soft"])
    over_time.set_ylabel("latency, ms", color=colours["soft"])
    over_time.set_xlabel("second of the run", color=colours["soft"])
    spread.set_xlabel("% of requests that took at most", color=colours["soft"])
    over_time.legend(frameon=False, labelcolor=colours["ink"], ncols=3, loc="upper left")
    over_time.set_title(f"{scenario.name}: {scenario.rate_per_s:g} requests/s", color=colours["ink"], fontsize=10, loc="left")
    spread.set_title(f"dashed: limit of p90, {scenario.p90_ms:g} ms", color=colours["soft"], fontsize=9, loc="left")
    figure.savefig(path)


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}: load test</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{text-align:left;padding:.2rem 1.2rem .2rem 0}}img{{max-width:100%}}
.held{{color:#1a7f37}}.missed{{color:#b42318}}</style>
<h1>{name} <span class="{verdict}">{verdict}</span></h1><p>{says}<br>{makeup}</p>{wrong}
<img alt="latency over time and its distribution" src="data:image/png;base64,{picture}">
<table>{rows}</table></html>
"""


def as_page(scenario: Scenario, found: Figures, wrong: Sequence[str], makeup: str, picture: Path) -> str:
    """One HTML page that needs no other file."""
    cells = "".join(f"<tr><th>{html.escape(name)}<td>{html.escape(value)}" for name, value in lines(found))
    return PAGE.format(
        name=html.escape(scenario.name),
        verdict="missed" if wrong else "held",
        says=html.escape(scenario.says),
        makeup=html.escape(makeup),
        wrong="".join(f"<p class=missed>{html.escape(line)}</p>" for line in wrong),
        picture=base64.b64encode(picture.read_bytes()).decode(),
        rows=cells,
    )


def lines(found: Figures) -> list[tuple[str, str]]:
    """The figures as a reader wants them: name and value."""
    shown: list[tuple[str, Any]] = [
        ("requests", f"{found.requests:,}"),
        ("answered", f"{found.answered_per_s:.0f}/s"),
        ("p50 / p90 / p99 / max", f"{found.p50_ms:.1f} / {found.p90_ms:.1f} / {found.p99_ms:.1f} / {found.max_ms:.0f} ms"),
        ("p90 from when sent", f"{found.service_p90_ms:.1f} ms"),
        ("left after due, p90", f"{found.late_p90_ms:.1f} ms"),
        ("failures", ", ".join(f"{count} × {kind}" for kind, count in found.failures.items()) or "none"),
        ("cache", "off" if found.hit_rate is None else f"{100 * found.hit_rate:.0f} % of lookups hit or shared"),
        *((f"processor time a request, {name}", f"{ms:.2f} ms") for name, ms in found.cpu_ms.items() if ms >= 0.01),
        ("processor time a request, generator", f"{found.generator_ms:.2f} ms; {priority()}"),
    ]
    return shown
