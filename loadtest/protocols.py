"""One Triton asked by gRPC and by HTTP in turn: what a call takes, and what it costs the process that asks (ADR 33)."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import uvloop
from rich.console import Console
from rich.progress import Progress

from app import embedder, speller
from app.errors import SetupError
from app.inference import Array, InferenceBackend, text_tensor
from app.settings import Settings
from app.stack import canary, connected, embedded
from loadtest.scenarios import SEED
from loadtest.traffic import distinct, names
from training.evaluation.sections import write_section

HEADING = "One call to Triton, by either protocol"
WARM_UP = 100
TIMEOUT_S = 10.0
Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Calls:
    """Rounds of calls to one model by one protocol: of each the median and the caller's processor time a call, in µs."""

    p50_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


Found = dict[tuple[str, str], Calls]  # by model and protocol


def asked(model: str, query: str) -> tuple[Mapping[str, Array], Sequence[str]]:
    """Inputs and outputs of one call about one text."""
    text = text_tensor([[query]])
    if model == embedder.MODEL:
        return {"QUERY": text}, ["EMBEDDING"]
    return {"QUERY": text, "CANDIDATES": text}, ["TEXT"]


async def one_round(client: InferenceBackend, model: str, queries: Iterable[str]) -> tuple[float, float, list[Array]]:
    """Median and processor time of one call after the other, in µs, and the answers."""
    calls = [asked(model, query) for query in queries]
    took, answers = [], []
    before = time.process_time()
    for inputs, outputs in calls:
        sent = time.perf_counter()
        answer = await client.infer(model, inputs, outputs, TIMEOUT_S)
        took.append(time.perf_counter() - sent)
        answers.append(answer[outputs[0]])
    spent = time.process_time() - before
    return statistics.median(took) * 1e6, spent / len(calls) * 1e6, answers


async def in_turn(protocols: Mapping[str, InferenceBackend], calls: int, rounds: int, tell: Tell) -> Found:
    """Each model by each protocol, `rounds` times in turn, `calls` distinct queries each time.

    Raises:
        SetupError: the protocols do not answer alike.
    """
    log = [query.text for query in islice(distinct(names(), SEED), max(calls, WARM_UP))]
    found: Found = {(model, name): Calls() for model in (embedder.MODEL, speller.MODEL) for name in protocols}
    for client in protocols.values():
        for model in (embedder.MODEL, speller.MODEL):
            await one_round(client, model, log[:WARM_UP])
    for number in range(rounds):
        for model in (embedder.MODEL, speller.MODEL):
            order = list(protocols) if number % 2 == 0 else list(protocols)[::-1]
            answers = []
            for name in order:
                p50, cpu, answered = await one_round(protocols[name], model, log[:calls])
                found[model, name].p50_us.append(p50)
                found[model, name].cpu_us.append(cpu)
                answers.append(answered)
                tell(calls)
            if not all(np.array_equal(*pair) for pair in zip(*answers, strict=True)):
                raise SetupError(f"{model} does not answer alike by {' and '.join(order)}")
    return found


def body(found: Found, calls: int, rounds: int) -> str:
    """Markdown: a row for each model, a column for each protocol."""
    protocols = list(dict.fromkeys(name for _, name in found))
    lines = [
        f"The same Triton, one call at a time about one text, {rounds} rounds of {calls:,} in turn, medians of the rounds; the "
        "answers are the same bit for bit. Caller: processor time of the process that asks.",
        "",
        "| | " + " | ".join(f"{name}: p50, caller" for name in protocols) + " |",
        "|---" * (len(protocols) + 1) + "|",
    ]
    for model in dict.fromkeys(model for model, _ in found):
        cells = (found[model, name] for name in protocols)
        medians = (f"{statistics.median(c.p50_us):,.0f} µs, {statistics.median(c.cpu_us):,.0f} µs" for c in cells)
        lines.append(f"| `{model}` | " + " | ".join(medians) + " |")
    return "\n".join(lines)


async def measure(calls: int, rounds: int, tell: Tell) -> Found:
    """`in_turn` on a Triton of its own."""
    triton = embedded(Settings().model_repository, canary=canary)
    await triton.start()
    try:
        protocols = {"gRPC": connected(triton.grpc_url), "HTTP": connected(triton.http_url)}
        try:
            return await in_turn(protocols, calls, rounds, tell)
        finally:
            await asyncio.gather(*(client.close() for client in protocols.values()))
    finally:
        await triton.stop()


def main(calls: int, rounds: int, out: Path | None, console: Console) -> None:
    """Measure, print the table and put it into `out`."""
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("calls", total=calls * rounds * 4)
        found = uvloop.run(measure(calls, rounds, lambda done: progress.advance(task, done)))
    text = body(found, calls, rounds)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        made = f"searchbar bench protocols --calls {calls} --rounds {rounds}"
        write_section(out, HEADING, made, text, f"on {len(os.sched_getaffinity(0))} CPU cores")
