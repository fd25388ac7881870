"""Ask every method every query, one at a time in one process, and keep what came back."""

from __future__ import annotations

import csv
import gzip
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress, TaskID

from app.settings import Settings
from training.evaluation.methods import Method, Ours, methods
from training.evaluation.metrics import Outcome
from training.evaluation.querysets import Catalogue, QuerySet
from training.local import LocalBackend


@dataclass(slots=True)
class Measured:
    """What was asked of one catalogue and answered: `outcomes[method][set]`."""

    catalogue: Catalogue
    outcomes: dict[str, dict[str, list[Outcome]]] = field(default_factory=dict)
    passes: dict[str, list[int]] = field(default_factory=dict)  # decoder passes of ours, by set

    def of(self, method: str, *groups: str, where: str = "") -> list[Outcome]:
        """A method's outcomes on the sets of the given groups (all without any) whose name begins with `where`."""
        sets = [s for s in self.catalogue.sets if (not groups or s.group in groups) and s.name.startswith(where)]
        return [outcome for s in sets for outcome in self.outcomes[method][s.name]]

    def size(self, *groups: str, where: str = "") -> int:
        return len(self.of(next(iter(self.outcomes)), *groups, where=where))


async def measure(backend: LocalBackend, catalogue: Catalogue, settings: Settings, progress: Progress) -> Measured:
    """Every row of the tables over one catalogue. Each method is asked one query untimed first."""
    rows: Sequence[Method] = methods(backend, catalogue.items, catalogue.lexicon, settings)
    measured = Measured(catalogue)
    task = progress.add_task(catalogue.name, total=len(rows) * sum(len(s.cases) for s in catalogue.sets))
    for method in rows:
        for name in method.names:
            measured.outcomes[name] = {}
        await method("warm up")
        for queries in catalogue.sets:
            progress.update(task, description=f"{catalogue.name} · {method.names[-1]} · {queries.name}")
            before = len(backend.passes)
            for name, found in zip(method.names, await ask(method, queries, progress, task), strict=True):
                measured.outcomes[name][queries.name] = found
            if isinstance(method, Ours):
                measured.passes[queries.name] = backend.passes[before:]
    return measured


async def ask(method: Method, queries: QuerySet, progress: Progress, task: TaskID) -> list[list[Outcome]]:
    """Outcomes of one set, a list for each of the method's names."""
    found: list[list[Outcome]] = [[] for _ in method.names]
    for case in queries.cases:
        started = time.perf_counter()
        replies = await method(case.typed)
        ms = (time.perf_counter() - started) * 1000
        for outcomes, reply in zip(found, replies, strict=True):
            outcomes.append(Outcome(case, reply, ms))
        progress.advance(task)
    return found


def write_rows(path: Path, results: Sequence[Measured]) -> None:
    """Every outcome as a line of a TSV, gzipped where the name ends in ``.gz``."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("typed", "meant", "catalogue", "set", "kind", "method", "answer", "others", "confidence", "ms"))
        for measured in results:
            for method, sets in measured.outcomes.items():
                for name, outcomes in sets.items():
                    for o in outcomes:
                        sure = "" if o.reply.confidence is None else f"{o.reply.confidence:.4f}"
                        others = " | ".join(o.reply.others)
                        writer.writerow((o.case.typed, o.case.meant, measured.catalogue.name, name, o.case.kind, method,
                                         o.reply.text, others, sure, f"{o.ms:.3f}"))  # fmt: skip
