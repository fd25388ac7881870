"""What an overload run says: CSV, JSON, a picture and a page."""

from __future__ import annotations

import base64
import csv
import html
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.connections import Sample
from loadtest.openloop import priority
from loadtest.overload import AFTER, BEFORE, BURST, REFUSED, Overload, Overloaded, Phase, missed_overload
from loadtest.report import PAGE


def write_overload(overload: Overload, found: Overloaded, out: Path) -> Path:
    """Write NAME.csv, NAME.json, NAME.png and NAME.html into `out`; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    rows = by_second(found.samples)
    with (out / f"{overload.name}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else ["second"])
        table.writeheader()
        table.writerows(rows)
    wrong = missed_overload(overload, found)
    phases: dict[str, Any] = {"ramp": [asdict(step) for step in found.ramp]}
    if found.normal is not None:
        phases["normal"] = asdict(found.normal)
    phases["rounds"] = [asdict(one) for one in found.rounds]
    body = {"overload": asdict(overload), "generator": priority(), "way": found.way, **phases, "missed": wrong}
    (out / f"{overload.name}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    picture = out / f"{overload.name}.png"
    plot(overload, rows, picture)
    page = out / f"{overload.name}.html"
    page.write_text(as_page(overload, found, wrong, picture), encoding="utf-8")
    return page


def by_second(samples: Sequence[tuple[str, Sample]]) -> list[dict[str, float | str]]:
    """A row for each second: phase, requests due, answered, refused, p90 of the answered and the slowest refusal in ms."""
    start = min((sample.due for _, sample in samples), default=0.0)
    seconds: dict[tuple[int, str], list[Sample]] = {}
    for name, sample in samples:
        seconds.setdefault((int(sample.due - start), name), []).append(sample)
    rows: list[dict[str, float | str]] = []
    for (second, name), some in sorted(seconds.items()):
        good = [sample.latency_ms for sample in some if sample.status == 200]
        refused = [sample.service_ms for sample in some if sample.status == REFUSED]
        rows.append(
            {
                "second": second,
                "phase": name,
                "requests": len(some),
                "answered": len(good),
                "refused": len(refused),
                "p90_ms": round(float(np.percentile(good, 90)), 3) if good else float("nan"),
                "slowest_refusal_ms": round(max(refused), 3) if refused else float("nan"),
            }
        )
    return rows


def plot(overload: Overload, rows: Sequence[dict[str, float | str]], path: Path) -> None:
    """Asked, answered and refused over time; p90 of the answered and the slowest refusal below their limits."""
    from training.evaluation.plots import canvas

    figure, (traffic, latency), colours = canvas(10, 3.6, 2)
    seconds = [row["second"] for row in rows]
    for name, colour in (("requests", "line"), ("answered", "accent"), ("refused", "ink")):
        traffic.plot(seconds, [row[name] for row in rows], color=colours[colour], linewidth=1.6, label=name)
    for name, colour, label in (
        ("p90_ms", "accent", "p90 of the answered"),
        ("slowest_refusal_ms", "ink", "slowest refusal"),
    ):
        latency.plot(seconds, [row[name] for row in rows], color=colours[colour], linewidth=1.6, label=label)
    for limit in (overload.load.p90_ms, overload.refusal_ms):
        latency.axhline(limit, color=colours["soft"], linewidth=1, linestyle=(0, (4, 3)))
    latency.set_yscale("log")
    for axis in (traffic, latency):
        axis.grid(color=colours["sunken"], which="major")
        axis.set_axisbelow(True)
        axis.set_xlabel("second of the run", color=colours["soft"])
        axis.legend(frameon=False, labelcolor=colours["ink"], loc="upper left")
    traffic.set_title(f"{overload.name}: requests a second", color=colours["ink"], fontsize=10, loc="left")
    latency.set_title("ms; dashed: p90 budget and limit of refusals", color=colours["soft"], fontsize=9, loc="left")
    figure.savefig(path)


def as_page(overload: Overload, found: Overloaded, wrong: Sequence[str], picture: Path) -> str:
    """One HTML page that needs no other file."""
    cells = "".join(f"<tr><th>{html.escape(name)}<td>{html.escape(value)}" for name, value in lines(found))
    return PAGE.format(
        name=html.escape(overload.name),
        verdict="missed" if wrong else "held",
        says=html.escape(overload.says),
        makeup="",
        wrong="".join(f"<p class=missed>{html.escape(line)}</p>" for line in wrong),
        picture=base64.b64encode(picture.read_bytes()).decode(),
        rows=cells,
    )


def lines(found: Overloaded) -> list[tuple[str, str]]:
    """The figures as a reader wants them: name and value."""
    shown = [("generator", priority()), ("requests", found.way)]
    shown += [(f"ramp, {step.rate_per_s:.0f}/s", in_words(step)) for step in found.ramp]
    phases = [("un-overloaded maximum", found.normal)] if found.normal is not None else []
    for one in found.rounds:
        phases += [(BEFORE, one.before)] * (one.before is not found.normal) + [(BURST, one.burst), (AFTER, one.after)]
    for name, phase in phases:
        shown.append((f"{name}, {phase.rate_per_s:.0f}/s", in_words(phase)))
        shown.append(("processors kept busy", ", ".join(f"{process} {share:.2f}" for process, share in phase.busy.items())))
    for number, one in enumerate(found.rounds, 1):
        words = f"goodput {one.goodput:.2f} ×, p90 {one.slower:.1f} ×; once recovered p90 {one.slower_after:.1f} ×"
        shown.append((f"round {number} against just before", f"{words}, {one.recovered.refused:,} refused"))
    return shown


def in_words(one: Phase) -> str:
    words = f"{one.goodput_per_s:.0f}/s answered, p90 {one.p90_ms:.1f} ms, {one.refused:,} refused"
    if one.refused:
        p50, p99, p999, most = one.refusal_ms
        words += (
            f" (p50 {p50:.1f}, p99 {p99:.1f}, p99.9 {p999:.1f}, most {most:.1f} ms; {100 * one.slow_refusals:.4f} % too late"
            + (f", {100 * one.slow_anyway:.4f} % without the machine's own pauses)" if one.slow_refusals else ")")
        )
    if one.pauses_ms:
        words += f"; the machine was away {len(one.pauses_ms)} times, for {max(one.pauses_ms):.1f} ms at most"
    return "; ".join([words, *(f"{count} × {kind}" for kind, count in one.failures.items())])
