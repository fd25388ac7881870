"""`searchbar index --engine ray`: the same index as without it, by worker processes of which none is left."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.domain import Item
from app.index.edge import EdgeIndex
from app.index.edge_earlier import EarlierVersion
from app.index.manifest import Manifest
from app.index.schema import point_id
from tests.conftest import DEMO
from tests.training.conftest import ENVIRONMENT

ROWS = 900  # more than one block, so that both workers have something to do


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of the demo catalogue, two of which are unusable."""
    lines = DEMO.read_text(encoding="utf-8").splitlines(keepends=True)[: ROWS + 1]
    path = tmp_path_factory.mktemp("catalogue") / "some.csv"
    path.write_text("".join([*lines[:5], "nameless,track,\n", *lines[5:], lines[1]]), encoding="utf-8")
    return path


def session_processes() -> list[str]:
    """Command lines of processes that belong to a Ray which we started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = (process / "environ").read_bytes()
        except OSError:
            continue  # gone, or not ours to look at
        if "searchbar-ray-" in command or b"searchbar-ray-" in folder:
            found.append(command)
    return found


def content(index: Path) -> tuple[list[Item], dict[int, np.ndarray]]:
    """The items of an index by id, and their vectors."""
    opened = EdgeIndex.open(index)

    async def read() -> list[Item]:
        found = [item async for item in opened.items()]
        await opened.close()
        return found

    items = sorted(asyncio.run(read()), key=lambda item: item.id)
    earlier = EarlierVersion(index)
    held = earlier.held([point_id(item.id) for item in items])
    earlier.close()
    return items, {number: one.vector for number, one in held.items()}


@pytest.mark.slow
@pytest.mark.timeout(900)  # every process of Ray imports Ray: seconds of one core each
def test_ray_builds_the_same_index(venv: Path, rows: Path, tmp_path: Path) -> None:
    """Items, vectors, manifest and rejected rows are those of the build in one process; no process or file is left."""
    if subprocess.run([venv / "python", "-P", "-c", "import ray.data"], capture_output=True).returncode:
        pytest.skip(f"no Ray in {venv}: `make train` installs it")
    before = set(Path("/tmp").glob("searchbar-ray-*"))
    by_ray, here = tmp_path / "by-ray", tmp_path / "here"
    command = [venv / "searchbar", "index", rows, "--out", by_ray, "--engine", "ray", "--workers", "2"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=800, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"{ROWS:,} items .*{ROWS:,} embedded", done.stderr.replace("\n", " "))
    result = CliRunner().invoke(cli, ["index", str(rows), "--out", str(here)])
    assert result.exit_code == 0, result.output
    (items, vectors), (expected, expected_vectors) = content(by_ray), content(here)
    assert items == expected and len(items) == ROWS
    assert vectors.keys() == expected_vectors.keys()
    for number, vector in vectors.items():  # batches are padded otherwise, which moves the last digits of int8 sums
        assert np.dot(vector, expected_vectors[number]) > 0.99
    ours, theirs = Manifest.read(by_ray), Manifest.read(here)
    assert (ours.dimensions, ours.embedder, ours.items, ours.source, ours.passages) == (
        theirs.dimensions, theirs.embedder, theirs.items, theirs.source, theirs.passages
    )  # fmt: skip
    assert rejected(by_ray) == rejected(here) and len(rejected(here)) == 2
    waited = time.monotonic() + 30
    while (left := session_processes()) and time.monotonic() < waited:
        time.sleep(0.5)
    assert left == []
    assert set(Path("/tmp").glob("searchbar-ray-*")) == before


def rejected(index: Path) -> list[dict[str, object]]:
    """The rejected rows beside an index, by line."""
    lines = index.with_name(f"{index.name}.rejects.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda row: str(row["line"]))


def test_what_ray_cannot_do_is_said(rows: Path, tmp_path: Path) -> None:
    """An update, or embeddings by Triton, with --engine ray are refused before anything starts."""
    for more in (["--mode", "update"], ["--triton", "127.0.0.1:1"]):
        result = CliRunner().invoke(cli, ["index", str(rows), "--out", str(tmp_path / "x"), "--engine", "ray", *more])
        assert result.exit_code == 1 and "InvalidInput" in repr(result.exception)
        assert os.listdir(tmp_path) == []
