"""The `searchbar` command."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from app import __version__
from app.cli_build import run_index
from app.cli_compare import compare
from app.cli_cost import cost
from app.cli_engines import engines, parity
from app.cli_index import indexing
from app.cli_keys import keys
from app.cli_load import load
from app.cli_sagemaker import sagemaker
from app.cli_soak import soak
from app.cli_train import extra, train
from app.cli_tune import tune
from app.errors import IndexUnavailable, InvalidInput, SearchbarError, SetupError
from app.settings import ROOT, Settings

DEMO = ROOT / "app" / "data" / "demo.csv"
CHECKPOINT = ROOT / "training" / "checkpoints" / "speller"

cli = typer.Typer(
    help="Searchbar: spelling correction, query embedding and hybrid retrieval behind one search bar.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
cli.add_typer(indexing)
cli.add_typer(train, name="train")
cli.add_typer(sagemaker, name="sagemaker")
cli.command()(tune)
cli.add_typer(engines, name="engines")
cli.add_typer(keys, name="keys")
cli.command()(parity)
cli.command()(load)
cli.command()(soak)
cli.command()(compare)
cli.command()(cost)
bench = typer.Typer(help="Measure parts of the system.", no_args_is_help=True)
cli.add_typer(bench, name="bench")
console = Console(stderr=True)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to serve on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to serve on; 0 picks a free one. [default: 8080]")] = None,
    index: Annotated[
        str | None,
        typer.Option(help="Index to serve: a directory or qdrant://HOST:PORT/COLLECTION. [default: the demo catalogue's]"),
    ] = None,
    triton: Annotated[
        str | None,
        typer.Option(help="A running Triton: http://host:port, host:port (gRPC) or sagemaker://ENDPOINT; unset starts one."),
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
    demo: Path = Settings.model_fields["index"].default
    if settings.index == demo and not demo_is_current(settings, demo):
        console.print(f"Building the demo index in {demo} (once for these weights)")
        run_index(DEMO, demo, settings)
    uvloop.run(serve_until_stopped(settings, console))


def demo_is_current(settings: Settings, index: Path) -> bool:
    """Whether the demo index is there and was built with the weights that will be served."""
    from app.index.manifest import Manifest
    from app.stack import check_weights

    try:
        check_weights(settings, Manifest.read(index))
    except (IndexUnavailable, SetupError):
        return False
    return True


@cli.command()
def evaluate(
    data: Annotated[
        Path | None, typer.Option(help="Directory with the large catalogue and the real misspellings. [default: demo alone]")
    ] = None,
    only: Annotated[str | None, typer.Option(help="One part alone: spelling or retrieval.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small samples, to see that all works; writes only where --out or --pictures say.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Markdown file whose sections are replaced. [default: training/RESULTS.md]")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Directory for the plots. [default: docs, with --data]")] = None,
    rows: Annotated[Path | None, typer.Option(help="TSV (or .tsv.gz) to write every single reply to.")] = None,
) -> None:
    """Measure spelling and retrieval quality beside baselines and print the tables.

    Spelling: exact match, alternatives, correct queries changed and latency, broken down by sort of query and of error;
    calibration of the confidence and what each threshold costs. Retrieval: each side of the index, fused, and
    the whole search beside SQLite FTS5 and rapidfuzz, with latency and index size.
    """
    with extra("dev"):
        from training.evaluation.report import Run
        from training.evaluation.report import main as run

    if only not in (None, "spelling", "retrieval"):
        raise InvalidInput(f"--only {only}: it is spelling or retrieval")
    configure_logging("warning")
    run(Run.of(data, only, quick, out, pictures, rows), console)


@bench.command("decoding")
def bench_decoding(
    queries: Annotated[int, typer.Option(help="Queries decoded both ways.", min=3)] = 10_000,
    speed: Annotated[bool, typer.Option("--speed", help="Time transformers and CTranslate2 too (the `bench` extra).")] = False,
    checkpoint: Annotated[Path, typer.Option(help="Where the repository's weights come from.")] = CHECKPOINT,
    rounds: Annotated[int, typer.Option(help="Timed rounds over all decoders.", min=1)] = 5,
    timed: Annotated[int, typer.Option(help="Queries in a timed round.", min=1)] = 512,
    out: Annotated[Path | None, typer.Option(help="Markdown file whose section `Decoding` is replaced.")] = None,
) -> None:
    """Compare aggressive decoding with plain greedy decoding: output, decoder passes and, with --speed, queries a second."""
    with extra("bench" if speed else "dev"):
        from training.evaluation.decoding import main as run

        run(queries, checkpoint if speed else None, rounds, timed, out, console)


@bench.command("budget")
def bench_budget(
    queries: Annotated[int, typer.Option(help="Queries asked of each route.", min=10)] = 1_000,
    out: Annotated[Path | None, typer.Option(help="Markdown file whose section is replaced, docs/performance.md.")] = None,
) -> None:
    """Ask each route alone and say where a request's milliseconds go, stage by stage.

    A server of its own without caches, one caller; the stages of a route add up to the median that the caller saw.
    """
    with extra("dev"):
        from loadtest.budget import main as run

        run(queries, out, console)


@bench.command("protocols")
def bench_protocols(
    calls: Annotated[int, typer.Option(help="Calls to each model by each protocol, a round.", min=10)] = 1_000,
    rounds: Annotated[int, typer.Option(help="Rounds, in turn.", min=1)] = 5,
    out: Annotated[Path | None, typer.Option(help="Markdown file whose section is replaced, docs/performance.md.")] = None,
) -> None:
    """Ask one Triton by gRPC and by HTTP, in turn: what a call takes, and what it costs the process that asks."""
    with extra("dev"):
        from loadtest.protocols import main as run

        run(calls, rounds, out, console)


@bench.command("in-turn")
def bench_in_turn(
    load: Annotated[str, typer.Argument(help="A load by name: `searchbar load --list`.")],
    servers: Annotated[list[str], typer.Argument(help="Servers, each in quotes: TREE, `socket`, KEY=VALUE, in any number.")],
    rate: Annotated[float | None, typer.Option(min=3, help="Requests a second instead of those stated.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long each is loaded in a round.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, every other in reverse.")] = 4,
    logs: Annotated[Path, typer.Option(help="Directory for what the servers print.")] = ROOT / "var" / "load",
) -> None:
    """Load several servers in turn and compare: what is a setting, or a change to the code, worth on this machine?

    A server is written as words: a directory or git revision of Searchbar whose code it runs (else this one), `socket` to ask
    it by a Unix-domain socket, and settings. Beyond what they can answer:

        searchbar bench in-turn overload --rate 15000 HEAD~1 .

        searchbar bench in-turn overload --rate 15000 . ". socket" ". socket SEARCHBAR_REALTIME=true"
    """
    with extra("dev"):
        from loadtest.in_turn import main as run
        from loadtest.in_turn import scenario

        run(scenario(load, rate), servers, seconds, rounds, logs, console)


@bench.command("scale")
def bench_scale(
    rows: Annotated[int, typer.Option(help="Rows of the catalogue, drawn from the demo's vocabulary.", min=1_000)] = 1_000_000,
    dimensions: Annotated[int | None, typer.Option(help="As `searchbar index --dimensions`.", min=8)] = None,
    quantise: Annotated[str, typer.Option(help="As `searchbar index --quantise`: none or int8.")] = "int8",
    again: Annotated[
        bool, typer.Option("--again", help="Build it a second time: what a rebuild with no changes costs.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Markdown file whose sections are replaced, docs/scale.md.")] = None,
) -> None:
    """Build an index of many rows in a temporary directory and measure it.

    Rows a second, peak memory, bytes on disk, memory and latency when serving, recall against brute force, and what follows
    for a hundred million tracks.
    """
    with extra("dev"):
        from training.evaluation.scale import Scale
        from training.evaluation.scale import main as run

        run(Scale(rows, dimensions, quantise), again, out, console)


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


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
