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
from training.evaluation.retrieval import CHARTS, compare_all
from training.evaluation.retrieval_body import retrieval_section
from training.evaluation.retrieval_measure import disk_mib
from training.evaluation.retrieval_plot import plot_retrieval
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
        pictures: directory for the plots; None draws none.
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
            sections["Retrieval"] = retrieval_of(run, backend, settings, progress)
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


def retrieval_of(run: Run, backend: LocalBackend, settings: Settings, progress: Progress) -> str:
    """Body of the section; its picture, of the charts, is drawn on the way."""
    compared = asyncio.run(compare_all(run.data, backend, settings, progress, quick=run.quick))
    body = retrieval_section(compared, sizes_of(settings.model_repository))
    charts = next((one for one in compared if one.catalogue == CHARTS), None)
    if run.pictures and charts:
        run.pictures.mkdir(parents=True, exist_ok=True)
        plot_retrieval(charts, run.pictures / "retrieval.png")
        body += link("Retrieval", "retrieval.png", run.out, run.pictures)
    return body


def sizes_of(repository: Path) -> str:
    """What the models' weights take, for a note: every row but the sparse one has the embedder, the whole search all."""
    models = {"embedder": ("embedder_encoder",), "speller": ("speller_encoder", "speller_decoder")}
    mib = {name: sum(disk_mib(repository / part / "1" / "model.onnx") for part in parts) for name, parts in models.items()}
    return ", ".join(f"{name} {size:.0f} MiB" for name, size in mib.items())


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
        sections[heading] += link(heading, name, out, pictures)


def link(heading: str, name: str, out: Path | None, pictures: Path) -> str:
    """Markdown for a picture, relative where both are the project's own."""
    at = Path("..", pictures.name, name) if out == RESULTS and pictures == PICTURES else pictures / name
    return f"\n![{heading}]({at.as_posix()})\n"
