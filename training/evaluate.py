"""`make evaluate`: spelling and retrieval quality on stated query sets, beside baselines that see the same queries.

Everything runs in this process on the model repository's own graphs (`training/local.py`), no server, so that the figures are
those of the weights that ship. Typos come from `training/noise.py` with seeds that training never uses.
"""

from __future__ import annotations

import asyncio
import csv
import json
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rapidfuzz import fuzz, process
from rich.console import Console
from symspellpy import SymSpell, Verbosity

from app.domain import Correction, Filters, Hit, IndexQuery, Item
from app.embedder import Embedder
from app.index.build import build_index
from app.index.edge import EdgeIndex
from app.index.readers import Rejected, read_items
from app.lexicon import Lexicon
from app.reranker import Reranker
from app.search import SearchService, merge
from app.settings import ROOT, Settings
from app.speller import Policy, Speller
from app.text import fold
from training.embedder.pairs import read_items as read_training_items
from training.local import LocalBackend
from training.noise import corrupt

DEMO = ROOT / "app" / "data" / "demo.csv"
SEMANTIC = ROOT / "tests" / "semantic_queries.jsonl"
SEED = 20_260_001  # training draws from small seeds


@dataclass(frozen=True, slots=True)
class Case:
    """A query, what was meant by it, and the items that answer it."""

    typed: str
    meant: str
    right: frozenset[str] = frozenset()


Corrector = Callable[[str], Awaitable[str]]


def demo_items() -> list[Item]:
    return [row for row in read_items(DEMO) if not isinstance(row, Rejected)]


def name_cases(items: list[Item], count: int, edits: int, seed: int) -> list[Case]:
    """Seeded queries for titles, artists and pairs of the demo catalogue, `edits` typing errors each.

    Any item whose title, artist or pair is the meant text answers it.
    """
    rng = random.Random(seed)
    answers: dict[str, set[str]] = {}
    for item in items:
        title, artist = fold(item.title), fold(item.artist)
        for name in {title, artist, f"{title} {artist}", f"{artist} {title}"} - {""}:
            answers.setdefault(name, set()).add(item.id)
    tracks = [item for item in items if item.kind == "track" and any(c.isalpha() for c in fold(item.title))]
    cases: list[Case] = []
    while len(cases) < count:
        item = rng.choice(tracks)
        title, artist = fold(item.title), fold(item.artist)
        meant = rng.choice((title, artist, f"{title} {artist}"))
        typed = corrupt(meant, rng, edits) if edits else meant
        if len(meant) >= 4 and (typed != meant or not edits) and (not edits or typed not in answers):
            cases.append(Case(typed, meant, frozenset(answers[meant])))
    return cases


def real_cases(data: Path) -> list[Case]:
    with (data / "real_misspellings_dev.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [Case(fold(r["typed"]), fold(r["correct"])) for r in rows if r["kind"] != "title_realword"]


def unknown_cases(data: Path, lexicon: Lexicon, count: int) -> list[Case]:
    """Correct queries about things in no catalogue here: playlist titles whose words are at least three letters."""
    with (data / "playlists.tsv").open(encoding="utf-8", newline="") as file:
        names = {fold(r["playlist"]) for r in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    plain = (n for n in names if 4 <= len(n) <= 40 and n.isascii() and n.replace(" ", "").isalpha())
    usable = sorted(n for n in plain if not lexicon.is_name(n))
    return [Case(n, n) for n in random.Random(SEED).sample(usable, min(count, len(usable)))]


class SymSpellBaseline:
    """symspellpy with a dictionary of the same catalogue's words, word by word."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.symspell = SymSpell(max_dictionary_edit_distance=2)
        for word, fame in lexicon.words.items():
            self.symspell.create_dictionary_entry(word, int(fame * 10) + 1)

    async def __call__(self, query: str) -> str:
        words = (self.symspell.lookup(w, Verbosity.TOP, 2, include_unknown=True)[0].term for w in query.split())
        return " ".join(words)


class NearestName:
    """rapidfuzz: the catalogue name nearest to the whole query, from 80 of 100 similarity on."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.names = list(lexicon.names)

    async def __call__(self, query: str) -> str:
        best = process.extractOne(query, self.names, scorer=fuzz.ratio, score_cutoff=80)
        return best[0] if best else query


async def identity(query: str) -> str:
    return query


@dataclass(slots=True)
class Spelling:
    name: str
    exact: float
    broken: float
    unknown_broken: float | None
    real: float | None
    found: float | None
    ms: float


async def exact(corrector: Corrector, cases: Sequence[Case]) -> float:
    return sum([await corrector(c.typed) == c.meant for c in cases]) / len(cases)


def ours(speller: Speller, wanted: tuple[str, ...]) -> Corrector:
    async def correct(query: str) -> str:
        c = await speller.correct(query)
        return fold(c.corrected) if c.action in wanted else query

    return correct


def with_reading(correction: Correction, meant: str) -> bool:
    return fold(correction.corrected) == meant or any(a.text == meant for a in correction.alternatives)


def build_speller(backend: LocalBackend, lexicon: Lexicon, settings: Settings) -> Speller:
    policy = Policy(settings.replace_threshold, settings.suggest_threshold)
    reranker = Reranker.load(settings.reranker)
    return Speller(backend, lexicon, reranker, policy, timeout_s=60, max_in_flight=1, max_queue=4096)


async def spelling_table(backend: LocalBackend, settings: Settings, data: Path | None) -> list[str]:
    items = demo_items()
    demo = Lexicon(items)
    typos, clean = name_cases(items, 500, 1, SEED), name_cases(items, 500, 0, SEED + 1)
    chart = Lexicon(read_training_items(data / "charts.tsv")) if data else None
    real = real_cases(data) if data else []
    unknown = unknown_cases(data, demo, 500) if data else []
    mine, mine_chart = build_speller(backend, demo, settings), build_speller(backend, chart, settings) if chart else None

    async def greedy(query: str) -> str:
        answer = await mine.score([__import__("app.speller", fromlist=["Question"]).Question(query, [])])
        return next(r.text for r in answer[0] if r.greedy)

    rows: list[tuple[str, Corrector, Corrector | None]] = [
        ("left as typed", identity, identity),
        ("SymSpell, word by word", SymSpellBaseline(demo), SymSpellBaseline(chart) if chart else None),
        ("rapidfuzz, nearest name", NearestName(demo), NearestName(chart) if chart else None),
        ("ours: greedy generation alone", greedy, greedy if chart else None),
        ("ours: replace", ours(mine, ("replace",)), ours(mine_chart, ("replace",)) if mine_chart else None),
        (
            "ours: replace or suggest",
            ours(mine, ("replace", "suggest")),
            ours(mine_chart, ("replace", "suggest")) if mine_chart else None,
        ),
    ]
    lines = [
        "| | one-edit typos of demo names | clean demo names changed | correct queries about other things changed | "
        "real misspellings, chart catalogue | ms a query |",
        "|---|---|---|---|---|---|",
    ]
    for name, corrector, on_chart in rows:
        started = time.perf_counter()
        fixed = await exact(corrector, typos)
        ms = (time.perf_counter() - started) / len(typos) * 1000
        broken = 1 - await exact(corrector, clean)
        other = f"{1 - await exact(corrector, unknown):.1%}" if unknown else "-"
        found = f"{await exact(on_chart, real):.1%}" if on_chart and real else "-"
        lines.append(f"| {name} | {fixed:.1%} | {broken:.1%} | {other} | {found} | {ms:.2f} |")
    if mine_chart and real:
        hits = [with_reading(await mine_chart.correct(c.typed), c.meant) for c in real]
        lines += ["", f"Right reading among ours: correction or alternatives, real misspellings: {sum(hits) / len(hits):.1%}."]
    backend.passes.clear()
    for case in typos:
        await mine.correct(case.typed)
    typo_passes = sum(backend.passes) / len(backend.passes)
    backend.passes.clear()
    for case in clean:
        await mine.correct(case.typed)
    clean_passes = sum(backend.passes) / len(backend.passes)
    lines += ["", f"Decoder passes a query: {clean_passes:.2f} clean, {typo_passes:.2f} with one typo."]
    return lines


def matches(item: Item, wanted: dict[str, object]) -> bool:
    """Whether an item answers a semantic query: every given key holds, any value of it."""
    year = wanted.get("year")
    if isinstance(year, dict) and not (item.year and year.get("gte", 0) <= item.year <= year.get("lte", 9999)):
        return False
    have = {"kind": {item.kind}, "moods": set(item.moods), "genres": set(item.genres)}
    return all(have[k] & set(wanted[k]) for k in have if k in wanted)  # type: ignore[call-overload]


async def retrieval_table(backend: LocalBackend, settings: Settings) -> list[str]:
    items = demo_items()
    speller = build_speller(backend, Lexicon(items), settings)
    embedder = Embedder(backend, timeout_s=60, max_in_flight=1, max_queue=4096)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "index"

        async def embed(passages: list[str]):  # type: ignore[no-untyped-def]
            import numpy as np

            return np.stack([v for i in range(0, len(passages), 64) for v in await embedder.embed_batch(passages[i : i + 64])])

        dimensions = len(await embedder.embed("probe"))
        await build_index(DEMO, out, embed, dimensions, "searchbar-embedder", lambda done, total: None)
        index = EdgeIndex.open(out)
        service = SearchService(speller, embedder, index, deadline_s=30)

        async def one(text: str, sparse: bool, dense: bool) -> list[Hit]:
            vector = await embedder.embed(text) if dense else None
            return (await index.query([IndexQuery(fold(text) if sparse else "", vector, 10, Filters())]))[0]

        async def dense(q: str) -> Sequence[Hit]:
            return await one(q, False, True)

        async def sparse(q: str) -> Sequence[Hit]:
            return await one(q, True, False)

        async def fused(q: str) -> Sequence[Hit]:
            return merge(await one(q, True, True), [], None)

        async def searched(q: str) -> Sequence[Hit]:
            return (await service.search(q, 10, Filters())).hits

        sets = {
            "clean": name_cases(items, 500, 0, SEED + 1),
            "one typo": name_cases(items, 500, 1, SEED),
            "two typos": name_cases(items, 300, 2, SEED + 2),
        }
        semantic = [json.loads(line) for line in SEMANTIC.read_text(encoding="utf-8").splitlines()]
        lines = [
            "| | " + " | ".join(f"{name}: in first 10" for name in sets) + " | one typo: first | semantic: precision@10 |",
            "|---|" + "---|" * (len(sets) + 2),
        ]
        ways = (("dense alone", dense), ("sparse alone", sparse), ("fused", fused), ("fused and corrected", searched))
        for name, find in ways:
            shares, first = [], 0.0
            for label, cases in sets.items():
                answers = [(case, await find(case.typed)) for case in cases]
                shares.append(sum(any(h.item.id in c.right for h in hits) for c, hits in answers) / len(cases))
                if label == "one typo":
                    first = sum(bool(hits) and hits[0].item.id in c.right for c, hits in answers) / len(cases)
            precision = 0.0
            for wanted in semantic:
                hits = await find(wanted["query"])
                precision += sum(matches(h.item, wanted) for h in hits[:10]) / 10 / len(semantic)
            lines.append(f"| {name} | " + " | ".join(f"{s:.1%}" for s in shares) + f" | {first:.1%} | {precision:.2f} |")
        await index.close()
    return lines


def main(data: Path | None, out: Path, console: Console) -> None:
    """Print both tables and write them to `out`."""
    settings = Settings()
    backend = LocalBackend(settings.model_repository)
    with console.status("measuring spelling"):
        spelling = asyncio.run(spelling_table(backend, settings, data))
    with console.status("measuring retrieval"):
        retrieval = asyncio.run(retrieval_table(backend, settings))
    command = "searchbar evaluate" + (" --data DIR" if data else "")
    text = "\n".join(
        [
            "# Results",
            "",
            f"Made by `{command}` on {date.today().isoformat()}, in one process on two CPU cores.",
            "",
            "## Spelling",
            "",
            "500 seeded one-edit typos and 500 clean queries for titles, artists and pairs of the demo catalogue (the names "
            "were in the training material, these typos were not); "
            + (
                "500 playlist titles that name nothing in it; real misspellings of artists and titles against the lexicon of a "
                "chart catalogue of 32 000 songs, many of whose right answers are in neither catalogue."
                if data
                else "no data directory given: no real pairs."
            ),
            "",
            *spelling,
            "",
            "## Retrieval",
            "",
            "The demo catalogue; the same typos and clean queries, 300 two-edit typos, and the 50 semantic queries of "
            "`tests/semantic_queries.jsonl`.",
            "",
            *retrieval,
            "",
        ]
    )  # fmt: skip
    out.write_text(text, encoding="utf-8")
    console.print(text, markup=False, soft_wrap=True)
