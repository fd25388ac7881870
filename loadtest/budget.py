"""Where the milliseconds of one request go, stage by stage, for a single caller that waits for each answer.

Three clocks: the caller's, the gateway's (`timings_ms` of every answer), and Triton's own counters of each model. What lies
between two clocks is a stage too, so the stages of a route add up to the median that the caller saw.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.progress import Progress

from app.errors import SetupError
from app.settings import ROOT
from loadtest.scenarios import EMBED, SEARCH, SEED, SPELLCHECK
from loadtest.server import Target, started, tree
from loadtest.traffic import distinct, names
from training.evaluation.sections import write_section

HEADING = "Where a request's milliseconds go"
LOG = ROOT / "var" / "load" / "budget.log"
WARM_UP = 100
_SPENT = re.compile(r'^nv_inference_request_duration_us\{model="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)
EMBEDDER, SPELLER, INDEX, TOTAL = "embedder", "speller", "index", "total"

Stages = list[tuple[str, float]]
Tell = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a route's requests took.

    Attributes:
        client_ms: as the caller saw it, one for each request.
        timings_ms: as the gateway said, likewise.
        model_ms: milliseconds that Triton spent on each of its models, divided by the requests.
    """

    client_ms: list[float]
    timings_ms: list[Mapping[str, float]]
    model_ms: Mapping[str, float]

    def timed(self, part: str) -> float:
        """Median of a part by the gateway's clock; 0 where no answer has it."""
        return statistics.median([one[part] for one in self.timings_ms if part in one] or [0.0])

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.client_ms)


class Triton:
    """The counters of the Triton that a server of ours has started."""

    def __init__(self, target: Target) -> None:
        """Raises SetupError when there is none below the server's process."""
        for pid in tree(target.pid) if target.pid else ():
            arguments = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
            port = next((a.split("=")[1] for a in arguments if a.startswith("--metrics-port=")), None)
            if port is not None:
                self._url = f"http://127.0.0.1:{port}/metrics"
                return
        raise SetupError("no Triton of its own below the server: its models' shares cannot be read")

    def spent_ms(self) -> dict[str, float]:
        """Milliseconds so far by model, waiting in its queue included."""
        return spent_ms(httpx.get(self._url, timeout=10).text)


def spent_ms(metrics: str) -> dict[str, float]:
    """Milliseconds by model, from Triton's metrics."""
    return {model: float(value) / 1e3 for model, value in _SPENT.findall(metrics)}


def ask(target: Target, triton: Triton, route: str, count: int, tell: Tell = lambda: None) -> Asked:
    """Send `count` distinct queries to a route, one after the other on one connection, after `WARM_UP` others."""
    log = [query.text for query in itertools.islice(distinct(names(), SEED), WARM_UP + count)]
    address = urlsplit(target.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    client_ms, timings_ms, before = [], [], {}
    for number, query in enumerate(log):
        if number == WARM_UP:
            before = triton.spent_ms()
        body = json.dumps({"query": query}).encode()
        sent = time.perf_counter()
        connection.request("POST", f"/v1/{route}", body, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            answer = response.read()
            took = time.perf_counter() - sent
        if response.status != 200:
            raise SetupError(f"/v1/{route} answered {response.status}: {answer[:200]!r}")
        if number >= WARM_UP:
            client_ms.append(took * 1e3)
            timings_ms.append(json.loads(answer)["timings_ms"])
            tell()
    connection.close()
    after = triton.spent_ms()
    return Asked(client_ms, timings_ms, {model: (ms - before.get(model, 0.0)) / count for model, ms in after.items()})


def embed_stages(asked: Asked) -> Stages:
    """The stages of `/v1/embed`."""
    triton = asked.model_ms["embedder"]
    return [
        *_gateway(asked, EMBEDDER),
        ("the way to Triton, and coalescing", asked.timed(EMBEDDER) - triton),
        ("Triton: tokenizer and BERT", triton),
    ]


def spellcheck_stages(asked: Asked) -> Stages:
    """The stages of `/v1/spellcheck`."""
    triton = asked.model_ms["speller"]
    return [
        *_gateway(asked, SPELLER),
        ("lexicon, reranker, the way to Triton, and coalescing", asked.timed(SPELLER) - triton),
        ("Triton: tokenizer, BART's encoder, drafts, decoder, detokenizer", triton),
    ]


def search_stages(asked: Asked) -> Stages:
    """The stages of `/v1/search`; speller and embedder run beside each other, the index after what it waits for."""
    waiting = asked.timed(TOTAL) - asked.timed(INDEX)
    return [
        ("the caller's own client, loopback, HTTP, JSON", asked.p50_ms - asked.timed(TOTAL)),
        ("models and near names, beside each other", waiting),
        ("index and ranking of the last reading", asked.timed(INDEX)),
    ]


ROUTES: dict[str, Callable[[Asked], Stages]] = {EMBED: embed_stages, SPELLCHECK: spellcheck_stages, SEARCH: search_stages}


def _gateway(asked: Asked, part: str) -> Stages:
    return [
        ("the caller's own client, loopback, HTTP, JSON", asked.p50_ms - asked.timed(TOTAL)),
        ("the route around its model", asked.timed(TOTAL) - asked.timed(part)),
    ]


def body(found: Mapping[str, Asked]) -> str:
    """Markdown: for each route its stages, which add up to the median."""
    lines = [
        "One caller, one request after the other, no query twice and no cache; milliseconds. What Triton did is a mean of "
        "its own counters; the other stages are what lies between two medians, so that a route adds up.",
    ]
    for route, asked in found.items():
        stages = ROUTES[route](asked)
        lines += ["", f"| `/v1/{route}`, {len(asked.client_ms)} queries | ms |", "|---|---|"]
        lines += [f"| {stage} | {ms:.2f} |" for stage, ms in stages]
        lines += [f"| **p50 of the caller** | **{asked.p50_ms:.2f}** |"]
    return "\n".join(lines)


def main(count: int, out: Path | None, console: Console) -> None:
    """Start a server, ask each route, print the stages and put them into `out`."""
    settings = {"SEARCHBAR_CACHE_ENTRIES": "0", "SEARCHBAR_LOG_LEVEL": "warning"}
    found: dict[str, Asked] = {}
    with started(settings, LOG) as target, Progress(console=Console(stderr=True)) as progress:
        triton = Triton(target)
        for route in ROUTES:
            task = progress.add_task(f"/v1/{route}", total=count)
            found[route] = ask(target, triton, route, count, partial(progress.advance, task))
    text = body(found)
    console.print(text, markup=False, highlight=False)
    if out is not None:
        made = f"searchbar bench budget --queries {count}"
        write_section(out, HEADING, made, text, f"on {len(os.sched_getaffinity(0))} CPU cores")
