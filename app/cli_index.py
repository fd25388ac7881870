"""`searchbar index` and `searchbar unindex`: catalogues into indexes."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from app.cli_build import console, run_index
from app.errors import InvalidInput
from app.index.address import ClusterAddress, index_address
from app.index.edge_layout import EdgeLayout
from app.priority import idle
from app.settings import Settings

indexing = typer.Typer()


class ModeName(str, Enum):
    """What becomes of items that FILE does not have."""

    whole = "replace"
    update = "update"


class Quantise(str, Enum):
    """How vectors are held in memory."""

    none = "none"
    int8 = "int8"


class Engine(str, Enum):
    """What embeds the catalogue."""

    here = "here"
    ray = "ray"


@indexing.command()
@idle()  # who serves beside it comes first
def index(
    file: Annotated[Path, typer.Argument(help="Catalogue: .csv, .tsv, .jsonl or .parquet.", exists=True, dir_okay=False)],
    out: Annotated[
        str,
        typer.Option(
            help="Directory of the index, or qdrant://HOST:PORT/COLLECTION; the one there is swapped for the new one when that "
            "is whole."
        ),
    ],
    mode: Annotated[
        ModeName,
        typer.Option(
            help="replace: the index holds what FILE holds. update: rows of FILE are added, or replace items of the same id; "
            "all others stay. `searchbar unindex` removes items."
        ),
    ] = ModeName.whole,
    dimensions: Annotated[
        int | None,
        typer.Option(
            min=8, help="Keep the first N dimensions of each embedding, normalised again. [default: all; update: as is]"
        ),
    ] = None,
    quantise: Annotated[
        Quantise | None,
        typer.Option(
            help="int8: search one byte a dimension in memory, the full vectors, on disk, score the best again. none: search "
            "the full vectors. [default: int8; update: as is]"
        ),
    ] = None,
    triton: Annotated[
        str | None,
        typer.Option(
            help="Embed on this Triton (http://host:port, or its gRPC's host:port); unset embeds in this process, on all cores."
        ),
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="ray: embed in worker processes of Ray, on the cluster of RAY_ADDRESS or on this machine.")
    ] = Engine.here,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes of --engine ray, one core each.")] = 2,
) -> None:
    """Index a catalogue, or add to an index.

    Columns: id, kind (track|album|artist|podcast|playlist), title, artist, album, year, genres, moods, popularity (0-100). Only
    title is required; `;` separates lists; unknown columns are kept as payload. Rejected rows are listed by line number in
    OUT.rejects.jsonl.

    The file is streamed, whatever its size. What is interrupted leaves the old index; items that the old index has in the same
    words are not embedded again, so a rebuild of a catalogue that changed little is quick.

    [bold]Nightly, whole:[/bold] searchbar index songs.parquet --out var/songs

    [bold]Now and then, what changed:[/bold] searchbar index changed.csv --out var/songs --mode update

    [bold]A million rows and more:[/bold] searchbar index songs.parquet --out var/songs --dimensions 192

    [bold]On many machines:[/bold] searchbar index songs.parquet --engine ray --workers 64 --out
    'qdrant://db/songs?shards=6&replicas=2&quantisation=int8&on_disk=true'
    """
    from app.index.manifest import Manifest

    settings = Settings(triton=triton) if triton else Settings()
    where = index_address(out)
    layout = EdgeLayout(quantise.value if quantise else EdgeLayout().quantisation)
    if engine is Engine.ray or isinstance(where, ClusterAddress):
        from app.cli_bulk import run_bulk

        check_bulk(where, mode, engine, settings, quantise)
        count = workers if engine is Engine.ray else 0
        run_bulk(file, where, settings, workers=count, dimensions=dimensions, layout=layout)
        return
    kept = Manifest.read(where) if mode is ModeName.update else None
    if kept and quantise and quantise.value != kept.quantisation:
        raise InvalidInput(f"{where} is quantised: {kept.quantisation}. --quantise {quantise.value} needs --mode replace")
    wanted = dimensions or (kept.dimensions if kept else None)
    run_index(file, where, settings, mode=mode.value, dimensions=wanted, layout=layout)


def check_bulk(
    where: Path | ClusterAddress, mode: ModeName, engine: Engine, settings: Settings, quantise: Quantise | None
) -> None:
    """Raises InvalidInput for what a build on Ray or onto a cluster does not do."""
    if mode is ModeName.update:
        raise InvalidInput("--mode update changes an index in a directory, with embeddings made here or by Triton")
    if engine is Engine.ray and settings.triton:
        raise InvalidInput("--engine ray embeds by itself, without Triton: leave --triton and SEARCHBAR_TRITON out")
    if isinstance(where, ClusterAddress) and quantise:
        raise InvalidInput(f"a cluster's layout is in its URL: --out '{where}?quantisation={quantise.value}'")


@indexing.command()
def unindex(
    ids: Annotated[
        Path, typer.Argument(help="The ids of the items, one a line; - reads them from standard input.", allow_dash=True)
    ],
    out: Annotated[Path, typer.Option(help="Directory of the index.")],
) -> None:
    """Remove items from an index by their ids.

    A changed copy is swapped in when it is whole. Ids the index does not hold are counted and otherwise ignored.

    [bold]Example:[/bold] echo track-0007 | searchbar unindex - --out var/songs
    """
    from app.index.change import remove_items

    if str(ids) != "-" and not ids.is_file():
        raise InvalidInput(f"{ids} is no file: name one that lists an id a line, or - for standard input")
    with nullcontext(sys.stdin) if str(ids) == "-" else ids.open(encoding="utf-8") as lines:
        report = remove_items((line.strip() for line in lines if line.strip()), out)
    console.print(f"{report.removed:,} items removed, {report.items:,} left → {out}")
    if report.unknown_count:
        named = ", ".join(report.unknown) + (", …" if report.unknown_count > len(report.unknown) else "")
        console.print(f"[yellow]{report.unknown_count:,} ids not found[/yellow]: {named}", highlight=False)
