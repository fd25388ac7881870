"""`searchbar bench protocols`: the same calls by each protocol in turn, and a table of medians."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from app.errors import SetupError
from app.inference import Array
from loadtest.protocols import Calls, body, in_turn


class Backend:
    """Remembers what it was asked, and answers by the length of the text."""

    def __init__(self, log: list[tuple[str, str, bytes]], name: str, off: float = 0.0) -> None:
        self.log, self.name, self.off = log, name, off

    async def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, Array]:
        self.log.append((self.name, model, inputs["QUERY"][0, 0]))
        return {outputs[0]: np.array([len(inputs["QUERY"][0, 0]) + self.off])}

    async def ready(self, model: str) -> bool:
        return True

    async def close(self) -> None:
        return None


async def test_both_are_asked_the_same_in_turn() -> None:
    """Who is first changes from round to round; every round leaves a figure for each model and protocol."""
    log: list[tuple[str, str, bytes]] = []
    told: list[int] = []
    found = await in_turn({"a": Backend(log, "a"), "b": Backend(log, "b")}, 100, 2, told.append)
    rounds = [log[start : start + 100] for start in range(400, len(log), 100)]  # after 100 of each to warm up
    assert [(calls[0][0], calls[0][1]) for calls in rounds] == [
        *(("a", "embedder"), ("b", "embedder"), ("a", "speller"), ("b", "speller")),
        *(("b", "embedder"), ("a", "embedder"), ("b", "speller"), ("a", "speller")),
    ]
    assert len({tuple(text for *_, text in calls) for calls in rounds}) == 1 and len(set(rounds[0])) == 100
    assert sum(told) == 800 and all(len(c.p50_us) == len(c.cpu_us) == 2 for c in found.values()) and len(found) == 4


async def test_answers_that_differ_are_refused() -> None:
    """A comparison of two servers that do not do the same is none."""
    log: list[tuple[str, str, bytes]] = []
    with pytest.raises(SetupError, match="embedder does not answer alike by a and b"):
        await in_turn({"a": Backend(log, "a"), "b": Backend(log, "b", 1e-9)}, 10, 1, lambda done: None)


def test_the_table_has_the_medians_of_the_rounds() -> None:
    """A row for each model, a column for each protocol."""
    found = {("m", "gRPC"): Calls([3.0, 1000.0, 2.0], [1.0, 5.0, 9.0]), ("m", "HTTP"): Calls([1.0], [2.0])}
    assert body(found, 10, 3).splitlines()[2:] == [
        "| | gRPC: p50, caller | HTTP: p50, caller |",
        "|---|---|---|",
        "| `m` | 3 µs, 5 µs | 1 µs, 2 µs |",
    ]
