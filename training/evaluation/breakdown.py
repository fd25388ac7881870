"""Exact match of ours and of the baselines by what sort of query it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from training.edits import KINDS
from training.evaluation.cases import Case
from training.evaluation.markdown import percent, table
from training.evaluation.measure import Measured
from training.evaluation.methods import BASELINES, SUGGEST
from training.evaluation.metrics import exact
from training.evaluation.querysets import ONE, REAL, TWO
from training.evaluation.spelling import spellable

METHODS = (SUGGEST, *BASELINES)
Belongs = Callable[[Case], bool]
KindsOf = Callable[[str, str], Sequence[str]]


def breakdown_body(measured: Sequence[Measured], kinds_of: KindsOf) -> str:
    """Markdown of the section `Spelling, broken down`: the last (largest) catalogue's typos and real misspellings.

    Args:
        kinds_of: the kinds of the typing errors between (typed, meant).
    """
    m = measured[-1]
    lines = [
        f"Exact match over the queries of the section before, {m.catalogue.name} catalogue: {m.size(ONE, TWO):,} seeded typos"
        + (f" and {m.size(REAL)} real misspellings" if m.size(REAL) else "")
        + ". Ours beside each baseline; in brackets, queries of the row. A query with two kinds of error counts under both.",
        "",
        "### Seeded typos",
        "",
        *table(("", *METHODS), rows(m, (ONE, TWO), typo_parts(kinds_of))),
    ]
    if m.size(REAL):
        lines += ["### Real misspellings", "", *table(("", *METHODS), rows(m, (REAL,), real_parts(m, kinds_of)))]
    return "\n".join(lines)


def typo_parts(kinds_of: KindsOf) -> list[tuple[str, Belongs]]:
    """(row, which cases belong to it) of the table of seeded typos."""
    parts: list[tuple[str, Belongs]] = [
        ("one edit", lambda c: c.edits == 1),
        ("two edits", lambda c: c.edits == 2),
        ("title", lambda c: c.kind == "title"),
        ("artist", lambda c: c.kind == "artist"),
        ("pair", lambda c: c.kind == "pair"),
        ("podcast", lambda c: c.kind == "podcast"),
        ("head: the most popular tenth", lambda c: c.fame == "head"),
        ("middle", lambda c: c.fame == "middle"),
        ("tail: never in the charts", lambda c: c.fame == "tail"),
        ("name with a digit", lambda c: any(char.isdigit() for char in c.meant)),
        ("name with letters outside ASCII", lambda c: c.accented),
        ("name of one word", lambda c: " " not in c.meant),
    ]
    return [*parts, *kind_parts(kinds_of)]


def real_parts(m: Measured, kinds_of: KindsOf) -> list[tuple[str, Belongs]]:
    """(row, which cases belong to it) of the table of real misspellings."""
    parts: list[tuple[str, Belongs]] = [
        (kind.replace("_", " "), lambda c, kind=kind: c.kind == kind)  # type: ignore[misc]
        for kind in sorted({o.case.kind for o in m.of(SUGGEST, REAL)})
    ]
    parts += [
        ("the catalogue knows the answer or all its words", lambda c: spellable(c, m.catalogue.lexicon)),
        ("answer is a name of the catalogue", lambda c: m.catalogue.lexicon.is_name(c.meant)),
        ("typed text is a name of the catalogue", lambda c: m.catalogue.lexicon.is_name(c.typed)),
        ("one error", lambda c: len(kinds_of(c.typed, c.meant)) == 1),
        ("two errors", lambda c: len(kinds_of(c.typed, c.meant)) == 2),
        ("three errors or more", lambda c: len(kinds_of(c.typed, c.meant)) > 2),
        ("name with a digit", lambda c: any(char.isdigit() for char in c.meant)),
    ]
    return [*parts, *kind_parts(kinds_of)]


def kind_parts(kinds_of: KindsOf) -> list[tuple[str, Belongs]]:
    return [(f"error: {kind}", lambda c, kind=kind: kind in kinds_of(c.typed, c.meant)) for kind in KINDS]  # type: ignore[misc]


def rows(m: Measured, groups: Iterable[str], parts: Sequence[tuple[str, Belongs]]) -> list[list[str]]:
    """Table rows; parts without a case are left out."""
    found = []
    outcomes = {name: m.of(name, *groups) for name in METHODS}
    for heading, belongs in parts:
        chosen = [i for i, o in enumerate(outcomes[SUGGEST]) if belongs(o.case)]
        if chosen:
            cells = [percent(exact(outcomes[name][i] for i in chosen)) for name in METHODS]
            found.append([f"{heading} ({len(chosen)})", *cells])
    return found
