"""The section `Retrieval` as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

from training.evaluation.markdown import decimal, percent, table
from training.evaluation.retrieval_measure import Answer, Compared, latency, precision, recall, reciprocal_rank
from training.evaluation.retrieval_ours import WHOLE
from training.evaluation.retrieval_sets import QuerySet

INTRO = (
    "Seeded queries made from each catalogue's own names: typed right (title, artist, both in either order), with one or two "
    "typing errors of the fitted noise model (names of every kind), and titles cut after 60 % of their characters. For a name "
    "every item that bears it is right; for a cut title only items of that very title, though others begin like it. "
    "Every row sees the same folded text and returns ten items at most. The baselines rank the same items, the more popular "
    "first where they are equally near; SQLite's tables hold genres, moods and decade too."
)
DESCRIBED = (
    "Of descriptions most of the first ten should be right. Semantic: the hand-written queries of "
    "`tests/semantic_queries.jsonl`, where some had been seen when the first phrases of `training/embedder/phrases.json` were "
    "written, and of `tests/semantic_queries_fresh.jsonl`, whose writer had not seen the phrases, nor theirs these "
    "queries; ten of the former have fewer than ten answers, so 0.90 is all they allow. Right is every item with the listed "
    "facts. Playlist titles: right are the songs that the playlist holds, at least five of the catalogue; those of this table "
    "are the tenth that is kept from the embedder's training. Precision: share of right items in the first ten; any: queries "
    "with one."
)
KNOWN = (
    "Training pairs: playlist titles with their songs that the embedder was trained on, many of which it knows by heart. "
    "It is memory, not retrieval. Mere names (`lorem`) say nothing of their songs, and were training pairs of the weights that "
    "ship, but are none of the next ones; the fused answer takes some for misspelt names (`lain`, `lorem`), and then falls "
    "behind the embedding."
)
COST = (
    "Latency is one query at a time in one process on two CPU cores, embedding and correction included where a row uses them, "
    "over all queries of the catalogue. On disk: the index, with stored items; the first four rows share one. In memory: what "
    "a process grows by that opens or builds the index and asks fifty queries, the models ({models}) aside."
)
COMPLETIONS = (
    "A completion (`/v1/suggest` without HTTP; 2,000 seeded beginnings of 1 to 12 characters, every third mistyped): "
    "p50 {:.2f} ms, p90 {:.2f} ms, p99 {:.2f} ms."
)
PRECISELY = (": precision@10", ": any in 10")
AHEAD = "*whole search ahead of the best baseline by, points*"


def retrieval_section(compared: Sequence[Compared], models: str) -> str:
    """Markdown of the section.

    Args:
        compared: one catalogue after the other.
        models: what they are and take, for the note on memory.
    """
    lines = [INTRO, "", DESCRIBED, "", COST.format(models=models), ""]
    for one in compared:
        lines += [f"### {one.catalogue.capitalize()}: {len(one.items):,} items", ""]
        named = [s for s in one.sets if not s.described]
        lines += ["Recall@10: queries with a right item among the first ten.", ""]
        lines += _figures(one, named, recall, lambda answers: (percent(recall(answers)),))
        lines += ["Recall@1 and MRR@10.", ""]
        lines += _figures(
            one, named, _first, lambda answers: (f"{percent(_first(answers))} / {decimal(reciprocal_rank(answers))}",)
        )
        if described := [s for s in one.sets if s.described and not s.trained]:
            lines += ["Descriptions.", "", *_figures(one, described, precision, _precisely, PRECISELY)]
        if trained := [s for s in one.sets if s.trained]:
            lines += [KNOWN, "", *_figures(one, trained, precision, _precisely, PRECISELY)]
        lines += ["Latency and size.", "", *_cost(one)]
        lines += [COMPLETIONS.format(*one.completions_ms), ""]
    return "\n".join(lines)


def _figures(
    one: Compared,
    sets: Sequence[QuerySet],
    share: Callable[[Sequence[Answer]], float],
    cells: Callable[[Sequence[Answer]], Sequence[str]],
    columns: Sequence[str] = ("",),
) -> list[str]:
    """A table of every row over `sets`, and by how many points of `share` the whole search is ahead of the best baseline.

    Args:
        cells: what is shown of the answers to a set, one for each of `columns`, whose names follow the set's; `share` first.
    """
    rows = [[way, *(cell for s in sets for cell in cells(of[s.name]))] for way, of in one.answers.items()]
    others = [one.answers[way.name] for way in one.ways if not way.ours]
    if others and (whole := one.answers.get(WHOLE)):
        ahead = [100 * (share(whole[s.name]) - max(share(of[s.name]) for of in others)) for s in sets]
        rest = [""] * (len(columns) - 1)
        rows.append([AHEAD, *(cell for points in ahead for cell in ("" if isnan(points) else f"{points:+.1f}", *rest))])
    return table(["", *(f"{s.name} ({len(s.cases)}){column}" for s in sets for column in columns)], rows)


def _first(answers: Sequence[Answer]) -> float:
    return recall(answers, 1)


def _precisely(answers: Sequence[Answer]) -> tuple[str, str]:
    return decimal(precision(answers), 3), percent(recall(answers))


def _cost(one: Compared) -> list[str]:
    rows = []
    for way in one.ways:
        p50, p90 = latency([answer for answers in one.answers[way.name].values() for answer in answers])
        rows.append([way.name, decimal(p50, 1), decimal(p90, 1), decimal(way.disk_mib, 1), decimal(way.memory_mib, 1)])
    return table(("", "p50 ms", "p90 ms", "on disk, MiB", "in memory, MiB"), rows)
