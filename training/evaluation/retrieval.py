"""The retrieval tables: each side of the index alone, fused and the whole search, beside what a team would use instead."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from app.domain import Item
from app.embedder import Embedder
from app.settings import Settings
from training.embedder.pairs import read_items
from training.evaluation import cases
from training.evaluation.names import Names, forms
from training.evaluation.retrieval_baselines import BASELINES
from training.evaluation.retrieval_completions import completion_latency
from training.evaluation.retrieval_measure import Compared, Way, ask, disk_mib
from training.evaluation.retrieval_memory import INDEX, LEXICON, grown_mib, write_items
from training.evaluation.retrieval_ours import WHOLE, build, our_ways
from training.evaluation.retrieval_sets import name_sets, playlist_sets, semantic_sets
from training.local import LocalBackend

DEMO, CHARTS = "demo", "charts"
COUNT, QUICK = 500, 30  # queries in each set
WARM_UP = 50  # queries asked before memory is read


async def compare_all(
    data: Path | None, backend: LocalBackend, settings: Settings, progress: Progress, *, quick: bool = False
) -> list[Compared]:
    """The demo catalogue and, with a data directory, the charts, each with every row."""
    count = QUICK if quick else COUNT
    catalogues = {DEMO: cases.demo_items()}
    if data:
        catalogues[CHARTS] = read_items(data / "charts.tsv")
    found = []
    for name, items in catalogues.items():
        sets = [
            *name_sets(items, names_of(items), count),
            *(semantic_sets(items, QUICK if quick else None) if name == DEMO else ()),
            *(playlist_sets(items, data / "playlists.tsv", count) if data else ()),
        ]
        asked = [queries for queries in sets if queries.cases]
        found.append(await compare(Compared(name, items, asked), backend, settings, progress))
    return found


def names_of(items: Sequence[Item]) -> Names:
    """The catalogue's names; a typo that is one of them is not asked."""
    known = {text for item in items for _, text in forms(item)}
    return Names(items, known.__contains__)


async def compare(compared: Compared, backend: LocalBackend, settings: Settings, progress: Progress) -> Compared:
    """Fill in every row over one catalogue. Indexes live in a directory that goes again."""
    items = compared.items
    asked = [case.typed for queries in compared.sets for case in queries.cases]
    warm = asked[:: -(-len(asked) // WARM_UP)]
    embedder = Embedder(backend, timeout_s=60, max_in_flight=1, max_queue=4096)
    with tempfile.TemporaryDirectory() as name:
        folder, catalogue = Path(name), Path(name) / "catalogue.jsonl"
        write_items(items, catalogue)
        task = progress.add_task(f"{compared.catalogue} · indexing", total=len(items))
        await build(catalogue, embedder, folder / "index", lambda done, of: progress.update(task, completed=done, total=of))
        size = disk_mib(folder / "index")
        vectors = [await embedder.embed(query) for query in warm]
        index = grown_mib(INDEX, catalogue, folder, warm, vectors)
        whole = index + grown_mib(LEXICON, catalogue, folder, warm)
        async with our_ways(items, folder / "index", embedder, backend, settings) as ways:
            for row, find in ways.items():
                await _fill(compared, Way(row, find, size, whole if row == WHOLE else index, ours=True), progress)
        for row, make in BASELINES.items():
            memory = grown_mib(row, catalogue, folder, warm)
            baseline = make(items, folder)
            await _fill(compared, Way(row, baseline, disk_mib(baseline.path) if baseline.path else 0.0, memory), progress)
            baseline.close()
    compared.completions_ms = completion_latency(items)
    return compared


async def _fill(compared: Compared, way: Way, progress: Progress) -> None:
    """Ask one way everything, once untimed before."""
    task = progress.add_task(f"{compared.catalogue} · {way.name}", total=sum(len(s.cases) for s in compared.sets))
    await way.find("warm up")
    compared.ways.append(way)
    compared.answers[way.name] = {s.name: await ask(way, s, lambda: progress.advance(task)) for s in compared.sets}
