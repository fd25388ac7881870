"""`searchbar bench scale`: an index of a million rows, built, asked and weighed; and what follows for a hundred million."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from app.errors import SetupError
from loadtest.server import proportional_set, tree
from training.evaluation.cases import demo_items
from training.evaluation.markdown import decimal, table
from training.evaluation.scale_catalogue import write_catalogue
from training.evaluation.scale_plan import GIB, NODE_CORES, REPLICAS, TRACKS, Figures, plan
from training.evaluation.scale_serving import COMPARED, LIMIT, SEED, TIMED, WARM_UP
from training.evaluation.sections import write_section

HEADING, PLAN_HEADING = "Measured", "A hundred million tracks at 900 queries a second"
LOOK_S = 0.5
SORTS = {"filtered": "all of them once more, of a genre of the item that each was made from alone"}
SEARCHBAR = "from app.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended well.

    Attributes:
        output: its standard output, where that was asked for.
        seconds: from start to end.
        cpu_s: processor time, all threads, and of the processes that it started.
        peak: most memory in bytes that it and those held at a time (proportional set sizes, looked at every `LOOK_S`).
    """

    output: str
    seconds: float
    cpu_s: float
    peak: int


@dataclass(frozen=True, slots=True)
class Scale:
    """What is measured: rows, and the options of `searchbar index`."""

    rows: int
    dimensions: int | None
    quantise: str

    def options(self) -> list[str]:
        dimensions = [] if self.dimensions is None else ["--dimensions", str(self.dimensions)]
        return [*dimensions, "--quantise", self.quantise]


def finish(arguments: Sequence[str], output: bool = False) -> Finished:
    """Run Python with these arguments, apart from this process, whose memory does not count; its progress is seen.

    Raises:
        SetupError: it failed.
    """
    started = time.perf_counter()
    # Isolated: the repository root, whose triton/ would shadow a package, stays off sys.path.
    process = subprocess.Popen([sys.executable, "-I", *arguments], stdout=subprocess.PIPE if output else None, text=True)
    with watched(process.pid) as held:
        text = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout:
        process.stdout.close()
    if process.returncode:
        raise SetupError(f"{' '.join(arguments)} ended with {process.returncode}: its message is above")
    return Finished(text, time.perf_counter() - started, used.ru_utime + used.ru_stime, max(held, default=0))


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """What a process and those that it started hold together, bytes, one look after the other."""
    looks: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            looks.append(sum(proportional_set(one) for one in tree(pid)))

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    try:
        yield looks
    finally:
        over.set()
        watching.join()


def disk_bytes(directory: Path) -> int:
    """What the files of an index take on the disk."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())


def main(scale: Scale, again: bool, out: Path | None, console: Console) -> None:
    """Build, measure, print, and put the sections into `out`."""
    with tempfile.TemporaryDirectory(prefix="searchbar-scale-") as folder:
        catalogue, index = Path(folder) / "catalogue.csv", Path(folder) / "index"
        console.print(f"writing a catalogue of {scale.rows:,} rows")
        write_catalogue(catalogue, demo_items(), scale.rows, SEED)
        command = ["-c", SEARCHBAR, "index", str(catalogue), "--out", str(index), *scale.options()]
        built = finish(command)
        rebuilt = finish(command) if again else None
        size = disk_bytes(index.resolve())
        console.print(f"asking {WARM_UP + TIMED:,} queries, comparing {COMPARED} with brute force")
        served = json.loads(
            finish(["-m", "training.evaluation.scale_serving", str(index), str(scale.rows)], output=True).output
        )
        source_bytes = catalogue.stat().st_size
    body = measured_body(scale, built, rebuilt, size, source_bytes, served)
    figures = Figures(scale.rows, size, served["resident"] - served["process"], served["query_cpu_s"], built.cpu_s)
    planned = plan_body(figures)
    console.print(body, markup=False, highlight=False)
    console.print(planned, markup=False, highlight=False)
    if out is not None:
        made = " ".join(["searchbar bench scale --rows", str(scale.rows), *scale.options(), *(["--again"] if again else [])])
        where = f"on {len(os.sched_getaffinity(0))} CPU cores"
        write_section(out, HEADING, made, body, where)
        write_section(out, PLAN_HEADING, made, planned, where)


def measured_body(
    scale: Scale, built: Finished, rebuilt: Finished | None, size: int, source_bytes: int, served: dict[str, Any]
) -> str:
    """Markdown of what was measured."""
    rows = scale.rows
    building = [_built("built", rows, built), *([_built("built again, nothing changed", rows, rebuilt)] if rebuilt else [])]
    lines = [
        f"{rows:,} rows ({source_bytes / rows:,.0f} B of CSV each), {scale.dimensions or 'all'} dimensions, "
        f"quantisation {scale.quantise}.",
        "",
        *table(("", "seconds", "rows/s", "processor time a row", "peak memory"), building),
        *table(
            ("size", "in all", "a row"),
            [
                ("on disk", *_bytes(size, rows)),
                (
                    "resident when serving, less the process without an index",
                    *_bytes(served["resident"] - served["process"], rows),
                ),
                ("of it not backed by a file", *_bytes(served["anonymous"], rows)),
            ],
        ),
        *table(
            (f"hybrid query of {LIMIT} hits, one at a time", "p50 ms", "p90 ms", "p99 ms"),
            [(SORTS.get(sort, sort), *(decimal(one) for one in found)) for sort, found in served["query_ms"].items()],
        ),
        f"{TIMED:,} queries after {WARM_UP} to warm up; a query takes {served['query_cpu_s'] * 1e3:.2f} ms of processor time, "
        f"its embedding, made beforehand, {served['embed_ms']:.2f} ms more. The index opens in {served['opening_s']:.1f} s. "
        f"recall@{LIMIT} of the dense side against brute force over all vectors, {COMPARED} queries: {served['recall']:.3f}.",
        "",
        f"The gateway keeps a lexicon and completions beside the index: {served['words']['bytes']:,.0f} B an item and "
        f"{served['words']['seconds']:.1f} s to build for {served['words']['items']:,.0f} items.",
    ]
    return "\n".join(lines)


def _built(what: str, rows: int, run: Finished) -> tuple[str, ...]:
    rate, cpu_ms = f"{rows / run.seconds:,.0f}", f"{run.cpu_s / rows * 1e3:.2f} ms"
    return what, f"{run.seconds:,.0f}", rate, cpu_ms, f"{run.peak / GIB:.2f} GiB"


def _bytes(size: int, rows: int) -> tuple[str, str]:
    return f"{size / GIB:.2f} GiB", f"{size / rows:,.0f} B"


def plan_body(figures: Figures) -> str:
    """Markdown of the plan."""
    return (
        f"{TRACKS:,} rows are {TRACKS / figures.rows:,.0f} times the measured index; {REPLICAS} replicas of each shard, "
        f"nodes of {NODE_CORES} cores. Processor time is taken to grow with the rows: true of codes and words, too much for "
        f"ranking, so the plan errs on the dear side.\n\n{plan(figures)}"
    )
