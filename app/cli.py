"""The `searchbar` command."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app import __version__
from app.errors import IndexUnavailable, SearchbarError, SetupError
from app.settings import ROOT, Settings

DEMO = ROOT / "app" / "data" / "demo.csv"

cli = typer.Typer(
    help="Searchbar: spelling correction, query embedding and hybrid retrieval behind one search bar.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
train = typer.Typer(help="Train models on a catalogue of your own (needs the `train` extra).", no_args_is_help=True)
cli.add_typer(train, name="train")
console = Console(stderr=True)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to serve on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to serve on; 0 picks a free one. [default: 8080]")] = None,
    index: Annotated[Path | None, typer.Option(help="Index directory to serve. [default: the demo catalogue's]")] = None,
    triton: Annotated[
        str | None, typer.Option(help="host:port of a running Triton's gRPC; unset starts the embedded one.")
    ] = None,
) -> None:
    """Serve the search page and the HTTP API.

    Starts the embedded Triton server, waits until every model has answered, and serves until Ctrl-C. Without --index the demo
    catalogue is served and indexed on first use. Every setting can also come from the environment: SEARCHBAR_PORT=9000.
    """
    import uvloop

    from app.server import serve_until_stopped

    given = {"host": host, "port": port, "index": index, "triton": triton}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    configure_logging(settings.log_level)
    if settings.index == Settings.model_fields["index"].default and not demo_is_current(settings):
        console.print(f"Building the demo index in {settings.index} (once for these weights)")
        run_index(DEMO, settings.index, settings)
    uvloop.run(serve_until_stopped(settings, console))


@cli.command()
def index(
    file: Annotated[Path, typer.Argument(help="Catalogue: .csv, .tsv, .jsonl or .parquet.", exists=True, dir_okay=False)],
    out: Annotated[
        Path, typer.Option(help="Directory to put the index in; an index there is replaced when the new one is whole.")
    ],
    triton: Annotated[
        str | None, typer.Option(help="host:port of a running Triton's gRPC; unset starts the embedded one.")
    ] = None,
) -> None:
    """Index a catalogue.

    Columns: id, kind (track|album|artist|podcast|playlist), title, artist, album, year, genres, moods, popularity (0-100). Only
    title is required; `;` separates lists; unknown columns are kept as payload. Rejected rows are listed by line number in
    OUT.rejects.jsonl.
    """
    settings = Settings(triton=triton) if triton else Settings()
    configure_logging("warning")
    run_index(file, out, settings)


def demo_is_current(settings: Settings) -> bool:
    """Whether the demo index is there and was built with the weights that will be served."""
    from app.index.manifest import Manifest
    from app.stack import check_weights

    try:
        check_weights(settings, Manifest.read(settings.index))
    except (IndexUnavailable, SetupError):
        return False
    return True


def run_index(file: Path, out: Path, settings: Settings) -> None:
    """Build the index of `file` at `out` with a progress bar and report what was left out."""
    from app.index.build import BuildReport, build_index
    from app.stack import embed_passages, fingerprint, inference

    columns = (TextColumn("indexing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

    async def build() -> BuildReport:
        out.parent.mkdir(parents=True, exist_ok=True)
        async with inference(settings) as (client, _):
            dimensions = (await embed_passages(client, ["canary"])).shape[1]
            with Progress(*columns, console=console) as progress:
                task = progress.add_task("index", total=None)
                return await build_index(
                    file,
                    out,
                    lambda passages: embed_passages(client, passages),
                    dimensions,
                    fingerprint(settings),
                    lambda done, total: progress.update(task, completed=done, total=total),
                )

    report = asyncio.run(build())
    console.print(f"{report.items:,} items in {report.seconds:.1f} s → {out}")
    if report.rejected:
        console.print(f"[yellow]{report.rejected:,} rows rejected[/yellow]: {report.rejects}")


Catalogues = Annotated[list[Path], typer.Option("--catalogue", help="Catalogue CSV or TSV; repeat for several.")]


@train.command("speller")
def train_speller(
    catalogue: Catalogues,
    out: Annotated[Path, typer.Option(help="Directory for the checkpoint; an unfinished run there is resumed.")],
    minutes: Annotated[float, typer.Option(help="Length of the run; the schedule follows the clock.")] = 60.0,
    init: Annotated[Path | None, typer.Option(help="Saved BART or MBART directory to continue from.")] = None,
    share: Annotated[list[float] | None, typer.Option(help="Share of examples drawn from each catalogue.")] = None,
    install: Annotated[bool, typer.Option(help="Export to int8 ONNX and install into the model repository.")] = False,
) -> None:
    """Train the spelling model."""
    with extra("train"):
        from training.speller.export import install as export
        from training.speller.train import SpellerRun
        from training.speller.train import train as run

    run(catalogue, share or [1.0] * len(catalogue), out, SpellerRun(minutes=minutes), init)
    if install:
        export(out, Settings().model_repository, out / "onnx")


@train.command("reranker")
def train_reranker(
    catalogue: Catalogues,
    others: Annotated[
        Path | None, typer.Option(help="TSV whose first column holds queries about things in no catalogue.")
    ] = None,
    count: Annotated[int, typer.Option(help="Queries drawn from each catalogue.")] = 12_000,
) -> None:
    """Fit the network that decides between readings, for the speller in the model repository."""
    with extra("train"):
        from training.speller.rerank import fit

    settings = Settings()
    fit(catalogue, others, settings.model_repository, settings.reranker, count)


@train.command("embedder")
def train_embedder(
    catalogue: Catalogues,
    out: Annotated[Path, typer.Option(help="Directory for the checkpoint; an unfinished run there is resumed.")],
    playlists: Annotated[Path | None, typer.Option(help="TSV of playlist, artist, title: semantic queries.")] = None,
    minutes: Annotated[float, typer.Option(help="Length of the run; the schedule follows the clock.")] = 30.0,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 8e-4,
    init: Annotated[Path | None, typer.Option(help="Saved sentence-transformers directory to continue from.")] = None,
    share: Annotated[list[float] | None, typer.Option(help="Share of pairs drawn from each catalogue.")] = None,
    install: Annotated[bool, typer.Option(help="Export to int8 ONNX and install into the model repository.")] = False,
) -> None:
    """Train the query embedder."""
    with extra("train"):
        from training.embedder.export import install as export
        from training.embedder.train import EmbedderRun
        from training.embedder.train import train as run

    run(catalogue, share or [1.0] * len(catalogue), playlists, out, EmbedderRun(minutes=minutes, lr=lr), init)
    if install:
        export(out / "model", Settings().model_repository, out / "onnx")


@cli.command()
def evaluate(
    data: Annotated[Path | None, typer.Option(help="Directory with the real misspelling pairs and chart catalogue.")] = None,
    out: Annotated[Path, typer.Option(help="Markdown file to write.")] = ROOT / "training" / "RESULTS.md",
) -> None:
    """Measure spelling and retrieval quality and print the tables."""
    with extra("dev"):
        from training.evaluation.report import main as run

    configure_logging("warning")
    run(data, out, console)


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports that need an extra of the package: what is missing is said with its cure."""
    try:
        yield
    except ModuleNotFoundError as exc:
        cure = "`make train` sets up .venv-train" if name == "train" else "`make setup` installs it"
        raise SetupError(f"{exc.name} is not installed: this command needs the `{name}` extra ({cure})") from exc


def configure_logging(level: str) -> None:
    handler = RichHandler(console=console, show_path=False, rich_tracebacks=False)
    logging.basicConfig(level=level.upper(), format="%(name)s: %(message)s", datefmt="[%X]", handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("searchbar.triton").setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))


def main() -> None:
    """Entry point: errors raised on purpose are printed as one message, without a traceback."""
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # starting Triton forks; gRPC would warn and needs no fork here
    try:
        cli()
    except SearchbarError as exc:
        console.print(f"[bold red]error:[/bold red] {exc}", highlight=False)
        sys.exit(1)
