"""`make evaluate`: spelling and retrieval quality on stated query sets, beside baselines that see the same queries.

Everything runs in this process on the model repository's own graphs (`training/local.py`), one thread, no server, so that the
figures are those of the weights that ship.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.channel import Channel
from app.settings import ROOT, Settings
from training.edits import kinds
from training.evaluation.breakdown import breakdown_body
from training.evaluation.calibration import calibration_body, curves
from training.evaluation.measure import Measured, measure, write_rows
from training.evaluation.plots import plot_reliability, plot_spelling
from training.evaluation.querysets import QUICK, REAL, Sizes, as_it_is, demo, large
from training.evaluation.retrieval import retrieval_body
from training.evaluation.sections import write_section
from training.evaluation.spelling import spelling_body
from training.local import LocalBackend

RESULTS, PICTURES = ROOT / "training" / "RESULTS.md", ROOT / "docs"
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@dataclass(frozen=True, slots=True)
class Run:
    """What to evaluate and where the answers go.

    Attributes:
        data: directory with the large catalogue and the real misspellings; without it the demo catalogue alone.
        only: `spelling` or `retrieval` instead of both.
        quick: small samples, to see that all works; the figures mean little.
        out: Markdown file whose sections are replaced; None prints only.
        pictures: directory for the two plots; None draws none.
        rows: TSV for every single reply.
    """

    data: Path | None = None
    only: str | None = None
    quick: bool = False
    out: Path | None = None
    pictures: Path | None = None
    rows: Path | None = None

    @classmethod
    def of(
        cls, data: Path | None, only: str | None, quick: bool, out: Path | None, pictures: Path | None, rows: Path | None
    ) -> Run:
        """A run that writes to the project's own files unless told otherwise; a quick one does not touch them."""
        if not quick:
            out = out or RESULTS
            pictures = pictures or (PICTURES if data else None)  # those of the demo catalogue alone would be lesser ones
        return cls(data, only, quick, out, pictures, rows)

    @property
    def command(self) -> str:
        words = ["searchbar evaluate", "--data DIR" if self.data else "", "--quick" if self.quick else ""]
        return " ".join([*filter(None, words), *(["--only", self.only] if self.only else [])])


def main(run: Run, console: Console) -> None:
    """Measure, print the sections and write what `run` asks for."""
    settings = Settings()
    backend = LocalBackend(settings.model_repository)
    sections: dict[str, str] = {}
    with Progress(*COLUMNS, console=console) as progress:
        if run.only != "retrieval":
            sections |= spelling_sections(run, backend, settings, progress)
        if run.only != "spelling":
            sections["Retrieval"] = asyncio.run(retrieval_body(backend, settings, progress, quick=run.quick))
    for heading, body in sections.items():
        if run.out:
            write_section(run.out, heading, run.command, body)
        console.print(f"## {heading}\n\n{body}\n", markup=False, highlight=False, soft_wrap=True)


def spelling_sections(run: Run, backend: LocalBackend, settings: Settings, progress: Progress) -> dict[str, str]:
    """Bodies by heading; rows and pictures are written on the way."""
    sizes = QUICK if run.quick else Sizes()
    measured = [asyncio.run(measure(backend, demo(run.data, sizes), settings, progress))]
    if run.data:
        progress.console.print("Reading the large catalogue")
        measured.append(asyncio.run(measure(backend, as_it_is(run.data), settings, progress)))
        measured.append(asyncio.run(measure(backend, large(run.data, sizes), settings, progress)))
    if run.rows:
        write_rows(run.rows, measured)
    sections = {
        "Spelling": spelling_body(measured),
        "Spelling, broken down": breakdown_body(measured, kinds_of()),
        "Calibration and policy": calibration_body(measured, settings),
    }
    if run.pictures:
        draw(measured[-1], run.pictures, run.out, sections)
    return sections


def kinds_of() -> Callable[[str, str], tuple[str, ...]]:
    """`training.edits.kinds` with the fitted channel; each pair is looked at once."""
    channel = Channel.load()

    @cache
    def of(typed: str, meant: str) -> tuple[str, ...]:
        return kinds(typed, meant, channel)

    return of


def draw(m: Measured, pictures: Path, out: Path | None, sections: dict[str, str]) -> None:
    """Both plots, and a link to each at the end of its section."""
    pictures.mkdir(parents=True, exist_ok=True)
    plot_reliability(curves(m), pictures / "reliability.png")
    drawn = {"Calibration and policy": "reliability.png"}
    if m.size(REAL):
        plot_spelling(m, pictures / "spelling.png")
        drawn["Spelling"] = "spelling.png"
    for heading, name in drawn.items():
        at = Path("..", pictures.name, name) if out == RESULTS and pictures == PICTURES else pictures / name
        sections[heading] += f"\n![{heading}]({at.as_posix()})\n"
