"""The spelling tables: ours and what a team would drop in instead, on the same queries in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.lexicon import Lexicon
from training.corpus import HOLDOUT
from training.evaluation.cases import Case
from training.evaluation.markdown import decimal, percent, table
from training.evaluation.measure import Measured
from training.evaluation.methods import BASELINES, SUGGEST
from training.evaluation.metrics import Outcome, among, broken, exact, latency, reciprocal_rank
from training.evaluation.querysets import CLEAN, ONE, OTHER, PART, REAL, REALWORD, RIGHT, TWO

Metric = Callable[[Sequence[Outcome]], float]
Column = tuple[str, Metric, tuple[str, ...], str]  # heading, metric, groups, beginning of the set's name

HOW = (
    "*Exact*: the reply is what was meant, letter for letter after folding. *MRR*: mean reciprocal rank of the right reading "
    "among the reply and the (at most three) readings offered beside it; SymSpell compound and greedy generation offer none. "
    "*Among*: it is one of them. *Changed*: a correct query is altered by more than spacing or diacritics. Figures in brackets "
    "are numbers of queries. Milliseconds are of the typos of the table, one query at a time on one thread. Typos come from "
    "`training/noise.py` with seeds that training does not use; a typo that is another name is not asked. Names are drawn "
    "evenly, not by popularity: 30 % titles, 30 % artists, 30 % pairs, 10 % podcasts.\n\n"
    "Baselines over the same catalogue: SymSpell with the words of all titles and artists and their frequencies (distance 2, "
    "prefix 7; known words stay), the same in its compound mode with word pairs, and the most similar name by rapidfuzz "
    "(`ratio` ≥ 80; a name stays). *Lexicon alone* answers with its first candidate and has nothing to weigh it against the "
    "query. *Replace* is what is searched without asking; *replace or suggest* adds what is offered as 'did you mean'. *Clean "
    "names* stay by rule in ours and in rapidfuzz; parts of names and other things are the harder test."
)


def spelling_body(measured: Sequence[Measured]) -> str:
    """Markdown of the section `Spelling`."""
    lines = [HOW, ""]
    for m in measured:
        if m.size(ONE):
            lines += demo_lines(m) if m.catalogue.name == "demo" else large_lines(m)
        if m.size(REAL):
            lines += real_lines(m)
    if len(measured) == 1:
        lines += ["No data directory was given: no large catalogue, no real misspellings, no queries about other things.", ""]
    return "\n".join(lines)


def demo_lines(m: Measured) -> list[str]:
    columns: list[Column] = [
        ("one edit: exact", exact, (ONE,), ""),
        ("two edits: exact", exact, (TWO,), ""),
        ("MRR", reciprocal_rank, (ONE, TWO), ""),
        ("among", among, (ONE, TWO), ""),
        ("clean names changed", broken, (CLEAN,), ""),
        ("parts of names changed", broken, (PART,), ""),
        ("other things changed", broken, (OTHER,), ""),
    ]
    intro = (
        f"### The demo catalogue\n\n{len(m.catalogue.items):,} items; nearly all names were seen in training, these typos were "
        f"not. {other_note(m)}"
    )
    return [intro, "", *metric_table(m, columns, (ONE, TWO)), passes(m), ""]


def large_lines(m: Measured) -> list[str]:
    columns: list[Column] = [
        (f"{which}, {group}: exact", exact, (group,), which) for which in ("seen", "unseen") for group in (ONE, TWO)
    ]
    columns += [
        ("MRR", reciprocal_rank, (ONE, TWO), ""),
        ("among", among, (ONE, TWO), ""),
        ("clean names changed", broken, (CLEAN,), ""),
        ("parts of names changed", broken, (PART,), ""),
        ("playlist titles changed", broken, (OTHER,), f"{OTHER}: playlists"),
        ("album titles changed", broken, (OTHER,), f"{OTHER}: albums"),
    ]
    intro = (
        f"### The large catalogue\n\n{len(m.catalogue.items):,} tracks and podcasts, all in the lexicon, "
        "among them rows without popularity for the artists and titles that the real misspellings below mean, which no "
        f"training has seen. *Unseen*: names of no "
        f"row that the speller or the reranker may draw ({HOLDOUT / 2:.0%} of titles, by hash). {other_note(m)}"
    )
    return [intro, "", *metric_table(m, columns, (ONE, TWO)), passes(m), ""]


def other_note(m: Measured) -> str:
    if not m.size(OTHER):
        return ""
    return (
        "*Other things*: playlist titles and album titles that are no name of the catalogue, as their makers typed them; "
        "from the half, by hash, that the reranker's fit leaves alone."
    )


def real_lines(m: Measured) -> list[str]:
    known = {id(o.case) for o in m.of(SUGGEST, REAL) if spellable(o.case, m.catalogue.lexicon)}
    kinds = sorted({o.case.kind for o in m.of(SUGGEST, REAL)})

    def on_known(metric: Metric, kind: str = "") -> Metric:
        return lambda outcomes: metric([o for o in outcomes if id(o.case) in known and kind in ("", o.case.kind)])

    def count(kind: str) -> int:
        return sum(id(o.case) in known and o.case.kind == kind for o in m.of(SUGGEST, REAL))

    columns: list[Column] = [(f"{k.replace('_', ' ')} ({count(k)}): exact", on_known(exact, k), (REAL,), "") for k in kinds]
    columns += [
        (f"all spellable ({len(known)}): exact", on_known(exact), (REAL,), ""),
        (f"all spellable ({len(known)}): MRR", on_known(reciprocal_rank), (REAL,), ""),
        (f"all spellable ({len(known)}): among", on_known(among), (REAL,), ""),
        (f"all ({m.size(REAL)}): exact", exact, (REAL,), ""),
        (f"all ({m.size(REAL)}): among", among, (REAL,), ""),
        ("the same, spelt right: changed", broken, (RIGHT,), ""),
        ("wrong but existing words: changed", broken, (REALWORD,), ""),
    ]
    shares = {name: on_known(exact)(m.of(name, REAL)) for name in BASELINES}
    best = max(shares, key=lambda name: shares[name])
    lead = 100 * (on_known(exact)(m.of(SUGGEST, REAL)) - shares[best])
    intro = (
        f"### Real misspellings, catalogue {m.catalogue.name}\n\n{m.size(REAL)} queries that people typed (dev part). For "
        f"{len(known)} the catalogue has the right answer or all its words (*spellable*); the columns by kind are over those: "
        "no dictionary method can answer the others. Labels are a few percent wrong. The noise model and the channel's "
        "confusion tables were fitted to these pairs among others; nothing else was."
    )
    end = f"Ours is {lead:+.1f} points from the best baseline ({best}) on the spellable ones."
    return [intro, "", *metric_table(m, columns, (REAL,)), end, ""]


def spellable(case: Case, lexicon: Lexicon) -> bool:
    """Whether the catalogue knows the right answer as a name or by all its words."""
    return lexicon.is_name(case.meant) or all(word in lexicon.words for word in case.meant.split())


def metric_table(m: Measured, columns: Sequence[Column], timed: tuple[str, ...]) -> list[str]:
    """One row a method; columns whose sets hold no query are left out."""
    kept = [c for c in columns if m.size(*c[2], where=c[3])]
    header = [""] + [h if "(" in h else f"{h} ({m.size(*groups, where=where)})" for h, _, groups, where in kept]
    rows = []
    for name in m.outcomes:
        figures = [(heading, metric(m.of(name, *groups, where=where))) for heading, metric, groups, where in kept]
        cells = [decimal(figure, 3) if "MRR" in heading else percent(figure) for heading, figure in figures]
        median, mean = latency(m.of(name, *timed))
        rows.append([name, *cells, decimal(median), decimal(mean)])
    return table([*header, "ms, median", "ms, mean"], rows)


def passes(m: Measured) -> str:
    """Mean decoder passes of ours by group; a query that a rule answers without the model costs none."""
    found = []
    for group in (CLEAN, PART, OTHER, ONE, TWO):
        sets = [s for s in m.catalogue.sets if s.group == group and s.cases]
        if sets:
            mean = sum(sum(m.passes[s.name]) for s in sets) / sum(len(s.cases) for s in sets)
            found.append(f"{group} {mean:.2f}")
    return f"Decoder passes a query: {', '.join(found)}."
