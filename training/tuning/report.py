"""What a run leaves: tables, plot, the chosen values, the section of triton/analyzer/README.md."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timezone
from math import isnan
from pathlib import Path

from app.errors import SetupError
from training.evaluation.markdown import table
from training.evaluation.plots import canvas
from training.tuning.choose import BUDGET_MS, ENOUGH, Trial, Verdict, throughput
from training.tuning.model_analyzer import Row
from training.tuning.plan import NAIVE_NAME
from training.tuning.run import Outcome
from training.tuning.settings import Setting

CHOSEN = "chosen.json"
SWEEP = "sweep.csv"
ANALYZER = "model-analyzer.csv"
PLOT = "throughput.png"
BEGIN, END = "<!-- results: written by `make tune` -->", "<!-- end of results -->"


def write(outcome: Outcome, work_dir: Path, out: Path, minutes: float) -> None:
    """Puts tables, plot, Model Analyzer's summaries and the chosen settings into `out`, in place of earlier ones."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    trials = [trial for found in outcome.trials.values() for trial in found]
    _write_rows(out / SWEEP, ("model", "setting", "round", "concurrency", "inferences_per_s", "p90_ms"), _points(trials))
    header = tuple(field.name for field in fields(Row))
    _write_rows(out / ANALYZER, header, (tuple(asdict(row).values()) for row in outcome.rows))
    for page in sorted((work_dir / "model-analyzer").glob("*/reports/summaries/*/result_summary.html")):
        shutil.copy(page, out / f"{page.parent.name}.html")
    _draw(outcome, out / PLOT)
    chosen = {model: asdict(setting) for found in outcome.chosen.values() for model, setting in found.settings.items()}
    when = datetime.now(timezone.utc).date().isoformat()
    facts = {"date": when, "cores": len(os.sched_getaffinity(0)), "minutes": round(minutes, 1), "settings": chosen}
    (out / CHOSEN).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def read_chosen(out: Path) -> tuple[str, dict[str, Setting]]:
    """Date of the run and setting of each model. Raises SetupError when no run has left its results in `out`."""
    try:
        facts = json.loads((out / CHOSEN).read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise SetupError(f"there are no results in {out}: run `searchbar tune` first") from exc
    found = {name: {**value, "preferred": tuple(value["preferred"])} for name, value in facts["settings"].items()}
    return facts["date"], {name: Setting(**value) for name, value in found.items()}


def _points(trials: Iterable[Trial]) -> Iterable[Sequence[object]]:
    for trial in trials:
        for point in trial.points:
            yield trial.target, trial.candidate.name, trial.round, point.concurrency, point.throughput, point.p90_ms


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _draw(outcome: Outcome, path: Path) -> None:
    """Throughput against p90 of every setting searched, one panel a model; the budget is a line."""
    figure, axes, colours = canvas(9, 3.6, len(outcome.trials))
    for axis, (target, trials) in zip(axes, outcome.trials.items(), strict=True):
        for trial in trials:
            if trial.round or not trial.points:
                continue
            name = trial.candidate.name
            ours = name == outcome.chosen[target].name
            colour = colours["accent"] if ours else colours["soft"]
            style = "--" if name == NAIVE_NAME else "-"
            x, y = [p.p90_ms for p in trial.points], [p.throughput for p in trial.points]
            label = f"chosen: {name}" if ours else name if name == NAIVE_NAME else None
            axis.plot(x, y, style, color=colour, marker="o", markersize=3, linewidth=2 if ours else 1, label=label)
        axis.axvline(BUDGET_MS, color=colours["soft"], linewidth=0.8, linestyle=":")
        axis.set_title(target, fontsize=9)
        axis.set_xlabel("p90, ms")
        axis.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("inferences a second")
    figure.savefig(path)


def summary(outcome: Outcome) -> list[str]:
    """Markdown: chosen against naive, and the settings chosen."""
    rows = []
    for target, verdict in outcome.verdicts.items():
        cells = [target, _figure(verdict.naive), _figure(verdict.chosen), _ratio(verdict), outcome.chosen[target].name]
        rows.append(cells)
    head = ["model asked", "naive", "chosen", "ratio", "chosen setting"]
    lines = [f"Inferences a second at p90 ≤ {BUDGET_MS:g} ms, batch 1, median of the rounds:", "", *table(head, rows)]
    settings = {model: s for found in outcome.chosen.values() for model, s in found.settings.items()}
    return [*lines, *table(["model", "setting"], [[f"`{model}`", str(s)] for model, s in settings.items()])]


def search_table(trials: Sequence[Trial]) -> list[str]:
    """Markdown: every setting searched, with its best concurrency."""
    rows = []
    for trial in trials:
        if not trial.round:
            best = trial.best()
            at = [str(best.concurrency), f"{best.p90_ms:.1f}"] if best else ["-", "-"]
            rows.append([trial.candidate.name, _figure(throughput(trial)), *at])
    return table(["setting", "inferences/s", "in flight", "p90, ms"], rows)


def section(outcome: Outcome, minutes: float) -> str:
    """The Markdown between the markers of triton/analyzer/README.md."""
    when = datetime.now(timezone.utc).date().isoformat()
    cores = len(os.sched_getaffinity(0))
    lines = [f"`make tune`, {when}, {cores} CPU cores, {minutes:.1f} minutes.", "", *summary(outcome)]
    for target, trials in outcome.trials.items():
        lines += [f"The search on `{target}`:", "", *search_table(trials)]
    lines += [f"![Throughput against p90](results/{PLOT})", ""]
    if outcome.rows:
        lines += ["Model Analyzer, model by model, the best of each setting within the budget:", "", *_analyzer(outcome.rows)]
    lines += [f"Not measured: {line}." for line in outcome.missing]
    return "\n".join([BEGIN, "", *lines]).rstrip() + f"\n\n{END}"


def _analyzer(rows: Sequence[Row]) -> list[str]:
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = (row.model, row.variant, row.setting)
        if row.p90_ms <= BUDGET_MS and (key not in best or row.throughput > best[key].throughput):
            best[key] = row
    cells = [
        [f"`{r.variant}`", r.setting, f"{r.throughput:,.0f}", str(r.concurrency), f"{r.p90_ms:.1f}"] for r in best.values()
    ]
    return table(["variant", "instances", "inferences/s", "in flight", "p90, ms"], cells)


def replace_section(readme: str, new: str) -> str:
    """`readme` with what stands between the markers replaced. Raises SetupError when it has no markers."""
    if BEGIN not in readme or END not in readme:
        raise SetupError(f"the README has no lines {BEGIN} and {END}")
    head, _, rest = readme.partition(BEGIN)
    return head + new + rest.partition(END)[2]


def _figure(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second else "none within the budget"


def _ratio(verdict: Verdict) -> str:
    return "-" if isnan(verdict.ratio) else f"{verdict.ratio:.2f} ×"


def judge(verdicts: Mapping[str, Verdict], target: str = "embedder") -> str | None:
    """What is wrong with the run's choice for `target`; None when it is good enough."""
    verdict = verdicts.get(target)
    if verdict is None:
        return f"{target} was not compared"
    if isnan(verdict.ratio):
        return f"the naive setting of {target} never keeps {BUDGET_MS:g} ms: there is nothing to compare with"
    if not verdict.enough:
        return f"the chosen setting of {target} does {verdict.ratio:.2f} × the naive one, less than {ENOUGH} ×"
    return None
