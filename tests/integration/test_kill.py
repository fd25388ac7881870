"""`kill -9` while items are written: what was acknowledged is there, and the index opens."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.domain import IndexQuery
from app.index.codes import FOLDER
from app.index.edge_layout import FLAT
from app.index.edge_live import LiveEdgeIndex
from app.index.edge_writer import EdgeWriter
from app.index.manifest import Manifest
from tests.integration import upsert_for_ever
from tests.integration.upsert_for_ever import ADDED, REPLACED, added, replaced, vectors


def build(directory: Path, count: int, dimensions: int) -> None:
    items = replaced(0) + [item for number in range(-count // ADDED, 0) for item in added(number)]
    writer = EdgeWriter(directory, dimensions)
    writer.add(items, vectors(len(items), dimensions))
    writer.finish(Manifest(dimensions, "drawn", len(items), "2026-01-01T00:00:00+00:00", "kill"))
    writer.close()


def run_and_kill(directory: Path, first: int, after_s: float) -> list[tuple[str, int]]:
    """What a process acknowledged before it was killed, `after_s` after its first acknowledgement."""
    command = [sys.executable, "-P", upsert_for_ever.__file__, str(directory), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(after_s)
        process.kill()
        lines += process.stdout.readlines()
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(what, int(number)) for what, number in whole]


@pytest.mark.parametrize(
    ("count", "dimensions", "kills"),
    [
        pytest.param(1_000, 64, 5, id="one open segment"),
        pytest.param(6_000, 512, 2, id="a closed segment"),
        pytest.param(FLAT + 100, 64, 2, id="codes"),
    ],
)
async def test_nothing_acknowledged_is_lost(tmp_path: Path, count: int, dimensions: int, kills: int) -> None:
    """After each kill at a random moment the index opens, holds every acknowledged version, addition and removal."""
    build(tmp_path, count, dimensions)
    assert bool(list(tmp_path.rglob("id_tracker.mappings"))) is (count > 1_000)  # a segment that is not written to any more
    assert (tmp_path / FOLDER).exists() is (count > FLAT)
    draw = random.Random(20261124)
    there: dict[int, bool] = {}  # round → whether its additions must be there; rounds in doubt are left out
    last = 0
    for _ in range(kills):
        for what, number in run_and_kill(tmp_path, last + 1, draw.uniform(0.0, 0.5)):
            there[number] = what == "upserted"
            last = max(last, number)
        if last % 2 == 0 and there.get(last - 1):
            del there[last - 1]  # its removal was under way
        index = LiveEdgeIndex.open(tmp_path)
        await check(index, there, last)
        await index.close()


async def check(index: LiveEdgeIndex, there: dict[int, bool], last: int) -> None:
    versions = [int(item.title.split()[-1]) for item in await index.get([item.id for item in replaced(0)])]
    assert len(versions) == REPLACED
    assert set(versions) <= {last, last + 1}  # of the round under way some may be written
    [(best, *_)] = await index.query([IndexQuery("", vectors(REPLACED + ADDED, index.dimensions)[REPLACED], 10)])
    assert best.item.title.endswith(" 0")  # the first of some round's: found by its embedding, by its code where there are any
    for number, expected in there.items():
        held = await index.get([item.id for item in added(number)])
        assert sorted(held, key=str) == (sorted(added(number), key=str) if expected else []), number
