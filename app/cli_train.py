"""`searchbar train`: the commands that need PyTorch, which they import only once their input is known to be good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from app.errors import InvalidInput, SetupError
from app.settings import ROOT, Settings

train = typer.Typer(help="Train models on a catalogue of your own (needs the `train` extra).", no_args_is_help=True)


Start = TypeVar("Start", str, Path)  # what `--init` names


class Config(str, Enum):
    """Shapes of the speller."""

    tiny = "tiny"
    small = "small"
    base = "base"


class Precision(str, Enum):
    """Mixed precision."""

    auto = "auto"
    bf16 = "bf16"
    fp16 = "fp16"
    no = "no"


Catalogues = Annotated[
    list[Path],
    typer.Option("--catalogue", help="Names to learn: .csv, .tsv, .jsonl or .parquet with a title column; repeat for more."),
]
Tables = Annotated[list[Path], typer.Option("--catalogue", help="Catalogue .csv or .tsv; repeat for several.")]
Out = Annotated[Path, typer.Option(help="Directory for the checkpoint; an unfinished run there is resumed.")]
Shares = Annotated[
    list[float] | None,
    typer.Option("--share", help="Share of examples from each catalogue, in their order.", show_default="equal", min=0),
]
Minutes = Annotated[
    float | None,
    typer.Option(help="Length of the run by the clock; the schedule follows.", show_default="60; embedder: 30", min=0),
]
Steps = Annotated[int | None, typer.Option(help="Length of the run in optimiser steps, instead of --minutes.", min=0)]
BatchSize = Annotated[int, typer.Option(help="Examples a step learns from, over all GPUs.", min=1)]
PrecisionOption = Annotated[Precision, typer.Option(help="auto: bf16, or fp16 on a GPU that has no bf16; no: fp32.")]
Compile = Annotated[bool | None, typer.Option(help="torch.compile: a slow start, faster steps.", show_default="on; tiny: off")]
Workers = Annotated[int | None, typer.Option(help="Processes that draw ahead.", show_default="none; GPU: up to 4", min=0)]
Checkpoints = Annotated[float, typer.Option(help="Minutes between checkpoints.", min=0)]
Install = Annotated[bool, typer.Option("--install", help="Export to int8 ONNX and install into triton/models.")]


@train.command("speller")
def train_speller(
    catalogue: Catalogues,
    out: Out,
    share: Shares = None,
    init: Annotated[
        str | None,
        typer.Option(help="Continue from a saved BART or MBART: a directory, or a name on the hub such as facebook/bart-base."),
    ] = None,
    config: Annotated[
        Config | None,
        typer.Option(
            help="Shape: small 4+2 layers × 256 (6 M), base 6+6 × 768 (bart-base), tiny 1+1 × 64.", show_default="small"
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Layers, encoder+decoder; with --init so many of those it has, evenly spaced.",
            show_default="as --config or --init",
            metavar="E+D",
        ),
    ] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    batch_size: BatchSize = 256,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            help="Examples in a device's memory at once; gradients add up to a batch.", show_default="all; base: 64", min=1
        ),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default="1e-3; base, --init: 3e-4")] = None,
    precision: PrecisionOption = Precision.auto,
    compile: Compile = None,
    workers: Workers = None,
    checkpoint_minutes: Checkpoints = 5.0,
    install: Install = False,
    install_to: Annotated[Path | None, typer.Option(help="Install into this copy of triton/models instead.")] = None,
) -> None:
    """Train the spelling model on the names of catalogues.

    Trains for an hour on whatever machine there is, or for as long as
    --minutes or --steps say: first copying clean names, then typos. The
    learning rate falls to zero at the end.

    A run that was stopped goes on from its last checkpoint when the same
    command is given again. A finished one stays as it is: go on from it with
    --init OUT --out ELSEWHERE.

    [bold]Examples[/bold]

    [cyan]searchbar train speller --catalogue mine.csv --out training/output/speller --minutes 60 --install[/cyan]

    [cyan]searchbar train speller --catalogue a.csv --share 0.8 --catalogue b.tsv --share 0.2 --out out --steps 5000[/cyan]

    [cyan]searchbar train speller --catalogue mine.csv --out out --init facebook/bart-base --micro-batch 64[/cyan]

    [cyan]torchrun --no-python --nproc-per-node 4 searchbar train speller --catalogue mine.csv --out out[/cyan] (four GPUs)
    """
    length = duration(minutes, steps)
    if init and config:
        raise InvalidInput("--init brings its own shape: leave --config out")
    halves = layers_of(layers) if layers else None
    require("torch")
    from training import beforehand
    from training import corpus as corpora

    corpus = corpora.load(catalogue, share, corpora.HOLDOUT)
    repository = install_to or (Settings().model_repository if install else None)
    if repository:
        beforehand.require_repository(repository, beforehand.SPELLER)
    if beforehand.is_main():
        for line in corpus.skipped:
            typer.echo(line)
    missing = to_train(out, out, init, beforehand.require_speller)
    if not missing and not repository:
        return
    with extra("train"):
        from training.speller.install import install as export
        from training.speller.train import preset
        from training.speller.train import train as run

    if missing:
        given = {"batch_size": batch_size, "micro_batch": micro_batch, "lr": lr or (3e-4 if init else None), "compile": compile}
        given["copy_phase"] = 0.0 if init else None  # a trained model copies
        given |= dict(zip(("encoder_layers", "decoder_layers"), halves or (), strict=False))
        more = {"precision": precision.value, "checkpoint_minutes": checkpoint_minutes, "workers": workers}
        run(corpus, out, preset((config or Config.small).value, **length, **given, **more), init, halves)
    if repository and beforehand.is_main():
        export(out, repository)
        typer.echo(f"installed into {repository}")


@train.command("reranker")
def train_reranker(
    catalogue: Annotated[
        list[Path], typer.Option("--catalogue", help="Catalogue CSV or TSV, with a lexicon of its own; repeat for more.")
    ],
    others: Annotated[
        list[str] | None,
        typer.Option(help="TSV of texts about things that no catalogue holds: FILE, or FILE:COLUMN; repeat for more."),
    ] = None,
    count: Annotated[int, typer.Option(help="Queries drawn from each catalogue.", min=100)] = 12_000,
) -> None:
    """Fit the network that decides between readings, for the speller in the model repository."""
    with extra("train"):
        from training.speller.rerank import fit

    settings = Settings()
    typer.echo(fit(catalogue, others or [], settings.model_repository, settings.reranker, count))


@train.command("noise")
def train_noise(
    pairs: Annotated[
        list[Path], typer.Option("--pairs", help="TSV of `typed` (or `misspelling`) and `correct`; the first like the traffic.")
    ],
    catalogue: Annotated[list[Path], typer.Option("--catalogue", help="Names that the fit is checked on; repeat for more.")],
    seed: Annotated[int, typer.Option(help="Of the names and typos drawn.")] = 0,
) -> None:
    """Fit the noise model and the channel's prices to real misspellings, and print the fit.

    The prices go to app/data/channel.json, the weights to training/noise.json. Fit the reranker again afterwards.
    """
    from app.channel import FITTED
    from training import corpus as corpora
    from training.noise import WEIGHTS
    from training.noise_fit import fit

    rng = Random(seed)
    corpus = corpora.load(catalogue)
    names = [corpora.query_for(corpus.draw(rng), rng) for _ in range(20_000)]
    typer.echo("\n".join(fit(pairs, names, FITTED, WEIGHTS)))


@train.command("embedder")
def train_embedder(
    catalogue: Tables,
    out: Out,
    playlists: Annotated[Path | None, typer.Option(help="TSV of playlist, artist, title: semantic queries.")] = None,
    every_playlist: Annotated[
        bool, typer.Option("--every-playlist", help="Learn titles without a word of moods, genres or decades too: by heart.")
    ] = False,
    share: Shares = None,
    init: Annotated[Path | None, typer.Option(help="Saved sentence-transformers model to continue from.")] = None,
    layers: Annotated[
        int | None,
        typer.Option(help="Layers; with --init so many of those it has, evenly spaced.", show_default="4, or as --init", min=1),
    ] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    batch_size: BatchSize = 256,
    chunk: Annotated[
        int | None, typer.Option(help="Texts whose activations are kept: for batches larger than memory.", min=1)
    ] = None,
    hard: Annotated[
        float, typer.Option(help="Share of a batch mined as hard negatives; needs --init.", min=0.0, max=0.5)
    ] = 0.3,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 8e-4,
    precision: PrecisionOption = Precision.auto,
    compile: Compile = None,
    workers: Workers = None,
    checkpoint_minutes: Checkpoints = 5.0,
    install: Install = False,
    install_to: Annotated[Path | None, typer.Option(help="Install into this copy of triton/models instead.")] = None,
) -> None:
    """Train the query embedder: half an hour by the clock unless --minutes or --steps say otherwise.

    The first 128 and the first 64 of its 256 numbers are embeddings too (`searchbar index --dimensions`).
    """
    length = duration(minutes, steps)
    require("torch")
    from training import beforehand

    repository = install_to or (Settings().model_repository if install else None)
    if repository:
        beforehand.require_repository(repository, beforehand.EMBEDDER)
    missing = to_train(out, out / "model", init, beforehand.require_embedder)
    if not missing and not repository:
        return
    with extra("train"):
        from training.embedder.export import install as export
        from training.embedder.train import EmbedderRun
        from training.embedder.train import train as run

    if missing:
        shape: dict[str, Any] = {"layers": layers} if layers else {}
        given = EmbedderRun(
            **length, **shape, batch_size=batch_size, lr=lr, precision=precision.value, checkpoint_minutes=checkpoint_minutes,
            compile=compile is not False, chunk=chunk, hard=hard, workers=workers, every_playlist=every_playlist,
        )  # fmt: skip
        run(catalogue, share or [1.0] * len(catalogue), playlists, out, given, init, layers)
    if repository and beforehand.is_main():
        export(out / "model", repository, out / "onnx")
        typer.echo(f"installed into {repository}")


@train.command("report")
def train_report(
    catalogue: Annotated[
        Path, typer.Option(help="Names to train on.", exists=True, dir_okay=False, show_default="app/data/demo.csv")
    ] = ROOT / "app" / "data" / "demo.csv",
    config: Annotated[Config, typer.Option(help="Shape of the speller.")] = Config.small,
    examples: Annotated[
        int | None, typer.Option(help="Examples that each setting trains on.", show_default="8192; GPU: 131072", min=256)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two settings, 128 examples: to see that it works.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write below this directory.", show_default="the project; --quick: training/output/quick"),
    ] = None,
) -> None:
    """Measure how fast the speller trains in FP32 and with AMP, at batches of 32 to 256, compiled too.

    Wants a machine with nothing else to do. Writes a section of training/RESULTS.md, the raw figures to
    training/runs/efficiency.json, and two plots to docs/.
    """
    with extra("train"):
        from training.efficiency_report import main as run

    root = out or (ROOT / "training" / "output" / "quick" if quick else ROOT)
    run(catalogue, config.value, examples, quick, root, Console(stderr=True))


def duration(minutes: float | None, steps: int | None) -> dict[str, Any]:
    """The run's own arguments for its length; empty for its default.

    Raises:
        InvalidInput: both were given.
    """
    if minutes is not None and steps is not None:
        raise InvalidInput("a run is as long as --minutes or as --steps say: give one of them")
    given = {"minutes": minutes, "max_steps": steps}
    return {name: value for name, value in given.items() if value is not None}


def layers_of(given: str) -> tuple[int, int]:
    """`3+1` as (3, 1). Raises InvalidInput for anything else."""
    encoder, plus, decoder = given.partition("+")
    if not (plus and encoder.isdecimal() and decoder.isdecimal() and int(encoder) and int(decoder)):
        raise InvalidInput(f"--layers {given}: say how many in the encoder and in the decoder, as in 4+2")
    return int(encoder), int(decoder)


def to_train(out: Path, weights: Path, init: Start | None, judge: Callable[[Start], None]) -> bool:
    """Whether a run is missing in `out`: says so where one has ended, judges `init` where one begins.

    Args:
        weights: where a run in `out` leaves its run.json.
        judge: raises SetupError when a run cannot begin from what it is given.
    """
    from training import beforehand

    done = beforehand.finished(out, weights)
    if done and beforehand.is_main():
        typer.echo(f"{out} holds a finished run ({done}): nothing to do. To go on from it: --init {out} --out ELSEWHERE")
    elif not done and init and not beforehand.begun(out):
        judge(init)
    return done is None


def require(module: str) -> None:
    """Raises SetupError when `module` is not installed; does not take the seconds to import it."""
    if find_spec(module) is None:
        raise missing(module, "train")


def missing(module: str | None, extra: str) -> SetupError:
    cure = "`make train` sets up .venv-train" if extra in ("train", "ray") else "`make setup` installs it"
    return SetupError(f"{module} is not installed: this command needs the `{extra}` extra ({cure})")


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports that need an extra of the package: what is missing is said with its cure."""
    try:
        yield
    except ModuleNotFoundError as exc:
        raise missing(exc.name, name) from exc
