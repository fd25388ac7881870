"""A catalogue into an index with a progress bar, and a word on what was left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from app.errors import InvalidInput
from app.index.edge_layout import EdgeLayout
from app.settings import Settings

if TYPE_CHECKING:
    from app.index.build import BuildReport, Mode
    from app.index.filling import Embed

console = Console(stderr=True)


def run_index(
    file: Path,
    out: Path,
    settings: Settings,
    *,
    mode: Mode = "replace",
    dimensions: int | None = None,
    layout: EdgeLayout | None = None,
) -> BuildReport:
    """Build the index of `file` at `out` with a progress bar and report what was left out; `dimensions` None keeps all."""
    from app.index.build import build_index
    from app.stack import fingerprint

    async def build() -> BuildReport:
        async with embedding(settings) as (embed, longest):
            if dimensions is not None and dimensions > longest:
                raise InvalidInput(f"--dimensions {dimensions}: the embedder makes {longest}")
            with Progress(*progress_columns(), console=console) as progress:
                task = progress.add_task("indexing", total=None)

                def finishing() -> None:
                    progress.update(task, description="finishing")
                    progress.refresh()

                return await build_index(
                    file, out, embed, dimensions or longest, fingerprint(settings),
                    lambda done, total: progress.update(task, completed=done, total=total),
                    mode=mode, layout=layout, finishing=finishing,
                )  # fmt: skip

    report = asyncio.run(build())
    say(report, out)
    return report


def say(report: BuildReport, out: object) -> None:
    """What a build did and what it left out."""
    made = report.counts
    console.print(
        f"{report.items:,} items in {report.seconds:.1f} s → {out} "
        f"({made.embedded:,} embedded, {made.taken_over:,} taken over, {made.unchanged:,} unchanged)"
    )
    if report.rejected:
        console.print(f"[yellow]{report.rejected:,} rows rejected[/yellow]: {report.rejects}")


@asynccontextmanager
async def embedding(settings: Settings) -> AsyncIterator[tuple[Embed, int]]:
    """What embeds passages, and the length of its vectors: the Triton of the settings, or the model repository run here."""
    if settings.triton is None:
        from app.index.encoder import PassageEncoder

        encoder = PassageEncoder(settings.model_repository)
        try:
            yield encoder.embed, encoder.dimensions
        finally:
            encoder.close()
        return
    from app.stack import embed_passages, inference

    async with inference(settings) as (client, _):
        longest = (await embed_passages(client, ["canary"])).shape[1]
        yield lambda passages: embed_passages(client, passages), longest


def progress_columns() -> tuple[ProgressColumn, ...]:
    """Of a build's progress bar."""
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} rows/s" if speed else "– rows/s")
