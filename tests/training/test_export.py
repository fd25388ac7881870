"""The graphs that ship compute what transformers computes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.training.conftest import Train


def test_exported_graphs_equal_transformers_on_trees_of_drafts(run: Train, tmp_path: Path) -> None:
    """Post-norm BART and pre-norm MBART in fp32: states, argmax and log-probabilities of every path of a tree within 1e-4."""
    done = run("python", "-P", Path(__file__).parent / "compare_graphs.py", tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [one["model"] for one in found] == ["bart", "bart", "mbart", "mbart"]
    assert [one["packed"] for one in found] == [True, False] * 2
    for one in found:
        assert one["states"] < 1e-4, one
        assert one["logprobs"] < 1e-4, one
