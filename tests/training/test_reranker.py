"""The reranker is fitted by its command, and what it writes is what the gateway loads."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from app.reranker import FEATURES, Reranker


def test_a_small_fit_is_loadable(venv: Path, catalogue: Path, tmp_path: Path) -> None:
    """A few hundred queries of a thousand rows give a network over the gateway's features; the shipped one stays."""
    out = tmp_path / "reranker.json"
    command = [venv / "searchbar", "train", "reranker", "--catalogue", catalogue, "--count", "320"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, env={**os.environ, "SEARCHBAR_RERANKER": str(out)}
    )
    assert done.returncode == 0, done.stderr
    assert "256 queries fitted, 64 held out" in done.stdout
    assert Reranker.load(out)._layers[0][0].shape[0] == len(FEATURES)


@pytest.mark.parametrize("others", ["nowhere.tsv", "{catalogue}:no_such_column"])
def test_missing_texts_are_said(venv: Path, catalogue: Path, tmp_path: Path, others: str) -> None:
    """A file or column that is not there is named."""
    given = others.format(catalogue=catalogue)
    command = [venv / "searchbar", "train", "reranker", "--catalogue", catalogue, "--count", "100", "--others", given]
    environment = {**os.environ, "SEARCHBAR_RERANKER": str(tmp_path / "reranker.json")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 1
    assert "no such" in done.stderr and "Traceback" not in done.stderr
