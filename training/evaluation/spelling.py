"""The spelling table: ours and what a team would drop in instead, on the same queries in one run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz import fuzz, process
from symspellpy import SymSpell, Verbosity

from app.domain import Correction
from app.lexicon import Lexicon
from app.reranker import Reranker
from app.settings import Settings
from app.speller import Policy, Question, Speller
from app.text import fold
from training.embedder.pairs import read_items as read_table
from training.evaluation import cases
from training.evaluation.cases import SEED, Case
from training.local import LocalBackend

Corrector = Callable[[str], Awaitable[str]]


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


def build_speller(backend: LocalBackend, lexicon: Lexicon, settings: Settings) -> Speller:
    """The speller as the gateway builds it, over the graphs in this process."""
    policy = Policy(settings.replace_threshold, settings.suggest_threshold)
    reranker = Reranker.load(settings.reranker)
    return Speller(backend, lexicon, reranker, policy, timeout_s=60, max_in_flight=1, max_queue=4096)


@dataclass(frozen=True, slots=True)
class Bench:
    """One catalogue's lexicon with every corrector built over it."""

    lexicon: Lexicon
    speller: Speller

    async def greedy(self, query: str) -> str:
        """The model's own reading, no lexicon and no reranker."""
        (readings,) = await self.speller.score([Question(query, [])])
        return next(r.text for r in readings if r.greedy)

    def ours(self, *wanted: str) -> Corrector:
        """Ours, acting on corrections whose action is one of `wanted` and on mended spaces, which need no action."""

        async def correct(query: str) -> str:
            found = await self.speller.correct(query)
            return fold(found.corrected) if found.action in wanted or not found.changed else query

        return correct

    def rows(self) -> dict[str, Corrector]:
        return {
            "left as typed": identity,
            "SymSpell, word by word": SymSpellBaseline(self.lexicon),
            "rapidfuzz, nearest name": NearestName(self.lexicon),
            "ours: greedy generation alone": self.greedy,
            "ours: replace": self.ours("replace"),
            "ours: replace or suggest": self.ours("replace", "suggest"),
        }


async def exact(corrector: Corrector, asked: Sequence[Case]) -> float:
    """Share of cases answered exactly."""
    return sum([await corrector(c.typed) == c.meant for c in asked]) / len(asked)


def among_readings(correction: Correction, meant: str) -> bool:
    return fold(correction.corrected) == meant or any(a.text == meant for a in correction.alternatives)


async def spelling_table(backend: LocalBackend, settings: Settings, data: Path | None) -> list[str]:
    """Markdown lines; the columns on real misspellings and other text only where `data` holds them."""
    items = cases.demo_items()
    demo_lexicon = Lexicon(items)
    demo = Bench(demo_lexicon, build_speller(backend, demo_lexicon, settings))
    typos, clean = cases.name_cases(items, 500, 1, SEED), cases.name_cases(items, 500, 0, SEED + 1)
    lines = [
        "| | one-edit typos of demo names: exact | clean demo names changed | correct queries about other things changed | "
        "real misspellings, chart lexicon: exact | ms a query |",
        "|---|---|---|---|---|---|",
    ]
    chart, real, others = None, [], []
    if data:
        lexicon = Lexicon(read_table(data / "charts.tsv"))
        chart = Bench(lexicon, build_speller(backend, lexicon, settings))
        real, others = cases.real_cases(data), cases.unknown_cases(data, demo_lexicon, 500)
    on_chart = chart.rows() if chart else {}
    for name, corrector in demo.rows().items():
        started = time.perf_counter()
        fixed = await exact(corrector, typos)
        ms = (time.perf_counter() - started) / len(typos) * 1000
        broken = 1 - await exact(corrector, clean)
        changed = f"{1 - await exact(corrector, others):.1%}" if others else "-"
        found = f"{await exact(on_chart[name], real):.1%}" if real else "-"
        lines.append(f"| {name} | {fixed:.1%} | {broken:.1%} | {changed} | {found} | {ms:.2f} |")
    if chart:
        among = [among_readings(await chart.speller.correct(c.typed), c.meant) for c in real]
        known = sum(all(w in chart.lexicon.words for w in c.meant.split()) for c in real) / len(real)
        share = sum(among) / len(among)
        lines += ["", f"The right reading is ours or among our alternatives for {share:.1%} of the real misspellings; "
                  f"the chart lexicon knows all words of {known:.1%} of the right answers."]  # fmt: skip
    lines += ["", f"Decoder passes a query: {await passes(backend, demo, clean):.2f} clean, "
              f"{await passes(backend, demo, typos):.2f} with one typo."]  # fmt: skip
    return lines


async def passes(backend: LocalBackend, bench: Bench, asked: Sequence[Case]) -> float:
    """Mean decoder passes a query."""
    backend.passes.clear()
    for case in asked:
        await bench.speller.correct(case.typed)
    return sum(backend.passes) / len(backend.passes)
