"""`searchbar engines`, what TensorRT plans are built from, and `searchbar parity`, the gate that they pass."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.cli_train import extra
from app.errors import SetupError
from app.settings import ROOT, Settings

engines = typer.Typer(help="Graphs for TensorRT; triton/engines/build.sh makes plans of them.", no_args_is_help=True)
console = Console(stderr=True)

CATALOGUE = ROOT / "app" / "data" / "demo.csv"
CHECKPOINTS = ROOT / "training" / "checkpoints"
FOLDER = ROOT / "triton" / "engines"
Graphs = Annotated[Path, typer.Option(help="Folder of the exported graphs.", show_default="triton/engines/onnx")]
INT8_QUERIES = 256


@engines.command()
def export(
    speller: Annotated[Path, typer.Option(help="Checkpoint.", show_default="training/checkpoints/speller")] = CHECKPOINTS
    / "speller",
    embedder: Annotated[Path, typer.Option(help="Checkpoint.", show_default="training/checkpoints/embedder")] = CHECKPOINTS
    / "embedder",
    out: Graphs = FOLDER / "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Also graphs with int8 scales, for PRECISION=int8.")] = False,
) -> None:
    """Export the fp32 graphs that TensorRT plans are built from, and check them (`train` extra)."""
    with extra("train"):
        from training.engine_graphs import export as write
        from training.engine_graphs import export_int8

    from app.parity_queries import probes

    made = write(speller, embedder, out)
    if int8:
        queries = [probe.query for probe in probes(CATALOGUE, INT8_QUERIES, seed=1)]
        made += export_int8(out, queries, Settings().model_repository)
    for path in made:
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    _check(made)


@engines.command()
def check(onnx: Graphs = FOLDER / "onnx") -> None:
    """Check exported graphs against TensorRT's published list of operators, without TensorRT (`train` extra)."""
    graphs = sorted(onnx.glob("*.onnx"))
    if not graphs:
        raise SetupError(f"no graphs in {onnx}: make them with `searchbar engines export`")
    _check(graphs)


def _check(graphs: list[Path]) -> None:
    with extra("train"):
        from training.engine_check import check as problems_of

    found = {path.name: problems_of(path, FOLDER) for path in graphs}
    for name, problems in found.items():
        typer.echo(f"{name}: {'sound' if not problems else '; '.join(problems)}")
    if any(found.values()):
        raise SetupError("TensorRT cannot be expected to build these graphs")


@engines.command()
def repository(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    onnx: Graphs = FOLDER / "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="The graphs with int8 scales instead of fp32.")] = False,
) -> None:
    """Copy the model repository with the exported graphs in it, for ONNX Runtime on a CPU: something to compare with."""
    from app.engine_repository import lay_out

    typer.echo(lay_out(Settings().model_repository, onnx, out, ".int8" if int8 else ""))


@engines.command()
def install(onnx: Graphs = FOLDER / "onnx") -> None:
    """Put the exported graphs beside the int8 ones of the model repository: what SEARCHBAR_TRITON_DEVICE=cuda serves."""
    from app.engine_repository import install as put

    put(onnx, Settings().model_repository)


def parity(
    reference: Annotated[
        str, typer.Option(help="`local`, `cuda` (it on a GPU), the folder of a model repository, or HOST:PORT of a Triton.")
    ] = "local",
    candidate: Annotated[str, typer.Option(help="The same; what is judged.")] = "local",
    queries: Annotated[int, typer.Option(help="Queries asked, a third without a typo.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the queries.")] = 7,
    items: Annotated[int, typer.Option(help="Names of the demo catalogue to find the nearest ten of.", min=100)] = 3000,
    texts: Annotated[float, typer.Option(help="Least share of identical corrected texts.", min=0, max=1)] = 0.99,
    logprob: Annotated[float, typer.Option(help="Most that 99 % of log-probabilities may differ by.", min=0)] = 0.25,
    cosine: Annotated[float, typer.Option(help="Least cosine of any two embeddings.", max=1)] = 0.999,
    overlap: Annotated[float, typer.Option(help="Least share of equal nearest items.", min=0, max=1)] = 0.98,
    out: Annotated[Path | None, typer.Option(help="JSON file for the report.")] = None,
) -> None:
    """Compare the answers of two Tritons; exits with 1 when the candidate is off by more than is tolerated.

    The gate before a TensorRT plan serves: --reference is ONNX Runtime, --candidate has the plans.
    """
    from app.parity import Tolerances, ask, compare, embed, server
    from app.parity_queries import names, probes

    asked = probes(CATALOGUE, queries, seed)
    passages = names(CATALOGUE)[:items]
    settings = Settings()

    async def both() -> dict[str, object]:
        async with server(reference, settings) as backend:
            expected = await ask(backend, asked)
            index = await embed(backend, passages)
        async with server(candidate, settings) as backend:
            found = await ask(backend, asked)
        report = compare(asked, expected, found, index, Tolerances(texts, logprob, cosine, overlap))
        return {"reference": reference, "candidate": candidate, "seed": seed, **report.as_dict()}

    report = asyncio.run(both())
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in ("queries", "texts", "logprob_p99", "logprob_max", "cosine_min", "cosine_mean", "overlap"):
        typer.echo(f"{name:<12} {report[name]:.6g}")
    if report["failures"]:
        raise SetupError(f"{candidate} does not answer as {reference} does: {'; '.join(report['failures'])}")  # type: ignore[arg-type]
    typer.echo("passed")
