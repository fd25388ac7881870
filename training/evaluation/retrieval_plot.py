"""The picture of the retrieval section: how often each way finds what was meant."""

from __future__ import annotations

from pathlib import Path

from training.evaluation.plots import canvas
from training.evaluation.retrieval_measure import Compared, recall
from training.evaluation.retrieval_ours import WHOLE

GROUP = 0.84  # of the distance between two groups of bars


def plot_retrieval(compared: Compared, path: Path) -> None:
    """Recall@10 on one catalogue, a group of bars for each query set: the whole search, then the baselines."""
    ways = [WHOLE, *(way.name for way in compared.ways if not way.ours)]
    figure, (axis,), colours = canvas(1.75 * len(compared.sets) + 0.6, 4.2, 1)
    fills = [colours["accent"], colours["soft"], colours["line"], colours["ink"]]
    width = GROUP / len(ways)
    for nth, way in enumerate(ways):
        shares = [recall(compared.answers[way][s.name]) for s in compared.sets]
        places = [at - GROUP / 2 + (nth + 0.5) * width for at in range(len(shares))]
        axis.bar(places, shares, width=0.92 * width, color=fills[nth % len(fills)], label="ours" if way == WHOLE else way)
        for place, share in zip(places, shares, strict=True):
            axis.text(place, share + 0.01, f"{100 * share:.0f}", ha="center", color=colours["ink"], fontsize=8)
    axis.set_xticks(range(len(compared.sets)), [f"{s.name}\n{len(s.cases)}" for s in compared.sets])
    axis.tick_params(axis="x", labelcolor=colours["ink"])
    axis.set_yticks([])
    axis.set_ylim(0, 1.08)
    title = f"{compared.catalogue}, {len(compared.items):,} items: queries with a right item in the first ten, %"
    axis.set_title(title, color=colours["ink"], fontsize=10, loc="left")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=len(ways), frameon=False, labelcolor=colours["ink"])
    figure.savefig(path)
