"""What a comparison says: JSON, CSV, the section of docs/performance.md, a picture, and what was missed."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.errors import InvalidInput
from loadtest.compare import LIMIT_MS, TRIAL_S
from loadtest.cost import COST_SAVED, LATENCY_SAVED, OURS, latency_saved, named, saved
from training.evaluation.markdown import table
from training.evaluation.sections import write_section

SECTION = "Side by side"
COMMAND = "make compare"
FRAMEWORKS = ("a", "b", "c", "d", "e")
FASTER = 2.0  # times the best of them that ours must carry
ADDED_MS = 1.5  # that the gateway may add to Triton's p50
COLUMNS = (
    "letter",
    "name",
    "title",
    "weights",
    "setting",
    "measured",
    "cosine",
    "max_tps",
    "closed_tps",
    "cpu_s_per_1000",
    "memory_mib",
)


def save(body: Mapping[str, Any], out: Path) -> None:
    """compare.json with everything, compare.csv with a line for each server and rate, in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with (out / "compare.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "rate", "answered_per_s", "p50_ms", "p90_ms", "p99_ms", "missed"])
        for row in body["servers"]:
            about = [row[column] for column in COLUMNS]
            for rate, at in row["at"].items():
                figures = [at[name] for name in ("answered_per_s", "p50_ms", "p90_ms", "p99_ms")]
                writer.writerow([*about, rate, *figures, "; ".join(at["missed"])])


def read(out: Path) -> dict[str, Any]:
    """What `save` wrote.

    Raises:
        InvalidInput: there is nothing.
    """
    path = out / "compare.json"
    if not path.exists():
        raise InvalidInput(f"there is no {path}: run `make compare`")
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return body


def merged(
    earlier: Mapping[str, Any], servers: Sequence[Mapping[str, Any]], ceiling: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The servers just measured in place of their earlier selves, in the order of their letters."""
    rows = {row["name"]: row for row in [*earlier.get("servers", ()), *servers]}
    ordered = sorted(rows.values(), key=lambda row: row["letter"])
    return {"limit_ms": LIMIT_MS, "servers": ordered, "ceiling": ceiling or earlier.get("ceiling")}


def verdicts(body: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """(what must hold, what was measured, whether it holds), of what the measured servers allow to judge."""
    rows = {row["name"]: row for row in body["servers"] if not row["not_run"]}
    found = []
    if top := body.get("ceiling"):
        says = f"{top['ratio']:.2f} × ({top['ours_tps']:.0f}/s against {top['triton_tps']:.0f}/s)"
        found.append(("embed throughput through the gateway ≥ 1.0 × perf_analyzer's", says, top["ratio"] >= 1.0))
        says = f"{top['added_p50_ms']:+.2f} ms ({top['ours_p50_ms']:.2f} against {top['triton_p50_ms']:.2f} ms)"
        found.append((f"p50 of a single caller ≤ {ADDED_MS:g} ms over Triton's", says, top["added_p50_ms"] <= ADDED_MS))
    others = [row for row in rows.values() if row["letter"] in FRAMEWORKS]
    if OURS in rows and others:
        best = max(others, key=lambda row: row["max_tps"])
        times = rows[OURS]["max_tps"] / best["max_tps"] if best["max_tps"] else math.inf
        says = f"{times:.2f} × ({rows[OURS]['max_tps']:.0f}/s against {best['max_tps']:.0f}/s of {best['title']})"
        found.append((f"max TPS ≥ {FASTER:g} × the best of (a)–(e)", says, times >= FASTER))
    rates = {name: (row["title"], row["max_tps"]) for name, row in rows.items() if row["max_tps"]}
    if latency := latency_saved(body["servers"]):
        says = ", ".join(f"{-100 * share:+.0f} % {what}" for what, share in latency.items())
        judged = list(latency.values())[-1]  # p90 at the load that is (a)'s own, or else the highest rate that both hold
        found.append((f"latency against (a): {100 * LATENCY_SAVED:.0f} % less", says, judged >= LATENCY_SAVED))
    if (share := saved(rates)) is not None:
        name = f"cost of a query against (a): {100 * COST_SAVED:.0f} % less"
        found.append((name, f"{-100 * share:+.0f} %", share >= COST_SAVED))
    return found


def rows_of(body: Mapping[str, Any]) -> list[list[str]]:
    """The table's cells, header first."""
    rates = list(dict.fromkeys(rate for row in body["servers"] for rate in row["at"]))
    columns = (f"p50 / p90 / p99 ms at {named(rate)}" for rate in rates)
    header = ["", "server", "weights", f"TPS at p90 ≤ {LIMIT_MS:g} ms", *columns]
    found = [[*header, "CPU s per 1 000", "memory MiB"]]
    for row in body["servers"]:
        if row["not_run"]:
            found.append(
                [row["letter"], row["title"], row["weights"], f"not run here: {row['not_run']}", *([""] * (len(rates) + 2))]
            )
            continue
        cells = [at_rate(row["at"].get(rate)) for rate in rates]
        used = "–" if row["cpu_s_per_1000"] is None else f"{row['cpu_s_per_1000']:.2f}"
        found.append([row["letter"], row["title"], row["weights"], limit_of(row), *cells, used, f"{row['memory_mib']:.0f}"])
    return found


def limit_of(row: Mapping[str, Any]) -> str:
    """Requests a second at the limit; the least and the most of several rounds behind it."""
    rounds = row.get("rounds") or []
    spread = f" ({min(rounds):.0f}–{max(rounds):.0f})" if len(rounds) > 1 else ""
    return f"{row['max_tps']:.0f}{spread}"


def at_rate(at: Mapping[str, Any] | None) -> str:
    """Quantiles of a rate, or that it was not held and how many were answered instead."""
    if at is None:
        return "–"
    shown = " / ".join(f"{at[name]:.1f}" for name in ("p50_ms", "p90_ms", "p99_ms"))
    return f"not held: {at['answered_per_s']:.0f}/s, p90 {at['p90_ms']:.0f} ms" if at["missed"] else shown


def section(body: Mapping[str, Any], tried: Mapping[str, Any] | None) -> str:
    """The section's text, without its heading."""
    header, *rows = rows_of(body)
    lines = ["![Requests a second and processor time, server by server](compare.png)", "", *table(header, rows)]
    judged = [[*words, "held" if held else "**missed**"] for *words, held in verdicts(body)]
    lines += table(["what must hold", "measured", ""], judged)
    lines += [NOTES, ""]
    ran = [row for row in body["servers"] if not row["not_run"]]
    settings = [[row["letter"], row["title"], row["setting"], cosine(row["cosine"]), idle(row.get("idle"))] for row in ran]
    lines += table(["", "server", "setting", "lowest cosine with ours", "of a core while it waits"], settings)
    if tried:
        lines += [f"Settings tried (`searchbar compare --tune`), TPS at p90 ≤ {LIMIT_MS:g} ms in trials of {TRIAL_S:g} s:", ""]
        some = [[name, one["setting"], f"{one['max_tps']:.0f}"] for name, found in tried["peers"].items() for one in found]
        lines += table(["server", "setting", "TPS"], some)
    return "\n".join(lines)


NOTES = """\
The same weights, the same folded queries (none twice, so that no cache helps; ours is off), on cores that the load
generator shares. All servers but (f) run at once and are loaded in turn: each is asked for the same thing before any is
asked for the next, in three rounds, so that a machine that changes its speed changes it for all; each figure is from the
middle round; a server that takes more than 5 % of a core while nobody asks it is stopped until it is asked again. Rates are
open-loop: latency counts from when a request was due. TPS at p90 ≤ 25 ms is the highest rate held without a failure in
trials of five seconds that close in to 5 %, each rate that is missed tried twice, the least and the most of the rounds in
brackets; processor time is that of the server's processes at that rate, memory their proportional set size after the load,
libraries that several of the servers map in shares. (a) runs the fp32 weights that the int8 graph was made from; (a*) is
(a) with that graph. Infinity pools by itself and is given the same graph cut before its pooling. (f) is driven by
perf_analyzer over gRPC with single queries, 2 to 64 in flight (at a rate, its latency counts from when a request left),
before or after the others; its pairs with the gateway are medians of rounds taken in turn, against one Triton. Latency
against (a) is judged by p90 at (a)'s own load: nine tenths of what it carried in the round, or eight, seven or six where
it does not hold that any more a few minutes later."""


def cosine(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def idle(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def plot(body: Mapping[str, Any], path: Path) -> None:
    """Two panels of bars: requests a second at the limit, processor seconds a thousand requests."""
    from training.evaluation.plots import canvas

    rows = [row for row in body["servers"] if not row["not_run"]]
    names = [f"({row['letter']}) {row['title']}" for row in rows]
    panels = (
        (f"requests/s at p90 ≤ {LIMIT_MS:g} ms\ntwo cores, generator included; higher is better", "max_tps", "{:.0f}"),
        ("processor seconds for 1 000 requests\nat that rate; lower is better", "cpu_s_per_1000", "{:.2f}"),
    )
    figure, axes, colours = canvas(10, 0.46 * len(rows) + 1.2, 2)
    fills = [colours[{OURS: "accent", "triton": "soft"}.get(row["name"], "line")] for row in rows]
    for axis, (title, figure_of, form) in zip(axes, panels, strict=True):
        values = [row[figure_of] or 0.0 for row in rows]
        axis.barh(names, values, color=fills, height=0.68)
        for at, value in enumerate(values):
            axis.text(
                value + 0.012 * max(values),
                at,
                form.format(value) if value else "–",
                va="center",
                color=colours["ink"],
                fontsize=9,
            )
        axis.set_title(title, color=colours["ink"], fontsize=10, loc="left")
        axis.set_xlim(0, max(values) * 1.18 or 1)
        axis.set_xticks([])
        axis.tick_params(axis="y", labelcolor=colours["ink"])
    axes[0].invert_yaxis()
    figure.savefig(path)


def publish(body: Mapping[str, Any], docs: Path, tried: Path) -> None:
    """Replace the section of performance.md, and write performance.json and compare.png beside it."""
    known = json.loads(tried.read_text(encoding="utf-8")) if tried.exists() else None
    times = sorted(row["measured"] for row in body["servers"] if row["measured"])
    where = f"on {os.cpu_count()} CPU cores; begun from {times[0]} to {times[-1]}" if times else "nothing measured"
    document = docs / "performance.md"
    if not document.exists():
        document.write_text("# Performance\n", encoding="utf-8")
    write_section(document, SECTION, COMMAND, section(body, known), where)
    (docs / "performance.json").write_text(json.dumps(compact(body), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    plot(body, docs / "compare.png")


def compact(value: Any) -> Any:
    """Figures to four significant digits: what a repository should carry."""
    if isinstance(value, Mapping):
        return {key: compact(inner) for key, inner in value.items() if key not in ("cpu_ms", "steps")}
    if isinstance(value, list):
        return [compact(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
