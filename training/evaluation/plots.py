"""The pictures of the report: reliability of the confidence, and the main result. Colours are the search page's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.settings import ROOT
from training.evaluation.calibration import Judgements
from training.evaluation.measure import Measured
from training.evaluation.methods import GREEDY, LEXICON, REPLACE, SUGGEST
from training.evaluation.metrics import broken, calibration_error, exact, reliability
from training.evaluation.querysets import OTHER, PART, REAL, RIGHT
from training.evaluation.spelling import spellable

STYLE = ROOT / "app" / "page" / "style.css"
OURS = (GREEDY, LEXICON, REPLACE, SUGGEST)
DOTS_PER_INCH = 150


def palette(path: Path = STYLE) -> dict[str, str]:
    """Colour variables of the page's light theme, the first of each name."""
    found: dict[str, str] = {}
    for name, value in re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6})", path.read_text(encoding="utf-8")):
        found.setdefault(name, value)
    return found


def canvas(width: float, height: float, columns: int) -> tuple[Any, Any, dict[str, str]]:
    """(figure, axes, palette). The Agg canvas is used directly: no display and no global state are touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = palette()
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=colours["surface"], layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    for axis in axes:
        axis.set_facecolor(colours["surface"])
        axis.tick_params(colors=colours["soft"], length=0)
        axis.spines[:].set_visible(False)
    return figure, axes, colours


def plot_reliability(curves: Mapping[str, Judgements], path: Path) -> None:
    """One panel a curve: accuracy over confidence, the diagonal being perfect; the area of a point is its share of queries."""
    figure, axes, colours = canvas(4.6 * len(curves), 4.4, len(curves))
    for axis, (name, judged) in zip(axes, curves.items(), strict=True):
        bins = reliability(judged)
        axis.plot([0, 1], [0, 1], color=colours["line"], linewidth=1.5, zorder=1)
        x, y = [b.confidence for b in bins], [b.accuracy for b in bins]
        axis.plot(x, y, color=colours["accent"], linewidth=1.5, zorder=2)
        areas = [30 + 500 * b.count / len(judged) for b in bins]
        axis.scatter(x, y, s=areas, color=colours["accent"], alpha=0.75, zorder=3, linewidths=0)
        axis.set_title(f"{name}\n{len(judged)} queries, ECE {calibration_error(judged):.3f}", color=colours["ink"], fontsize=10)
        axis.set_xlabel("confidence", color=colours["soft"])
        axis.set(xlim=(-0.03, 1.05), ylim=(-0.03, 1.05), aspect="equal")
        axis.grid(color=colours["sunken"])
        axis.set_axisbelow(True)
    axes[0].set_ylabel("share right", color=colours["soft"])
    figure.savefig(path)


def plot_spelling(m: Measured, path: Path) -> None:
    """Real misspellings whose answer the catalogue can spell, answered exactly; and correct queries changed; by method."""
    names = [name for name in m.outcomes if name != "left as typed"]
    clean = (PART, OTHER, RIGHT)
    real = {n: [o for o in m.of(n, REAL) if spellable(o.case, m.catalogue.lexicon)] for n in names}
    panels: Sequence[tuple[str, list[float]]] = (
        (
            f"real misspellings answered exactly\n{len(real[SUGGEST])} that the catalogue can spell; higher is better",
            [exact(real[n]) for n in names],
        ),
        (
            f"correct queries changed\n{m.size(*clean)} parts, other things, real names; lower is better",
            [broken(m.of(n, *clean)) for n in names],
        ),
    )
    figure, axes, colours = canvas(10, 0.52 * len(names) + 1.2, 2)
    for axis, (title, shares) in zip(axes, panels, strict=True):
        fills = [colours["accent"] if n == SUGGEST else colours["soft"] if n in OURS else colours["line"] for n in names]
        axis.barh(names, shares, color=fills, height=0.68)
        for row, share in enumerate(shares):
            axis.text(share + 0.012 * max(shares), row, f"{share:.1%}", va="center", color=colours["ink"], fontsize=9)
        axis.set_title(title, color=colours["ink"], fontsize=10, loc="left")
        axis.set_xlim(0, max(shares) * 1.18 or 1)
        axis.set_xticks([])
        axis.tick_params(axis="y", labelcolor=colours["ink"])
    axes[0].invert_yaxis()
    figure.savefig(path)
