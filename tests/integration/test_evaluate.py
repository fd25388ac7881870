"""`searchbar evaluate --quick` on the demo catalogue, as a person would run it."""

from __future__ import annotations

import csv
import gzip
import re
import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT
from tests.conftest import SEARCHBAR

pytest.importorskip("symspellpy", reason="the dev extra is not installed")
pytest.importorskip("matplotlib", reason="the dev extra is not installed")


def evaluate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [SEARCHBAR, "evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"})


def test_a_quick_evaluation_fills_its_sections_and_leaves_the_others(tmp_path: Path):
    """Every section has its tables with every baseline, other commands' sections stay, and RESULTS.md is not touched."""
    out, rows = tmp_path / "R.md", tmp_path / "rows.tsv.gz"
    out.write_text("# Results\n\n## Load\n\nstays\n\n## Spelling\n\nold\n", encoding="utf-8")
    before = (ROOT / "training" / "RESULTS.md").read_bytes()
    done = evaluate("--quick", "--out", out, "--pictures", tmp_path / "pictures", "--rows", rows)
    assert done.returncode == 0, done.stderr
    text = out.read_text(encoding="utf-8")
    headings = ["Load", "Spelling", "Spelling, broken down", "Calibration and policy", "Retrieval"]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == headings
    assert "stays" in text and "\nold\n" not in text
    for row in (
        "left as typed",
        "SymSpell, compound",
        "rapidfuzz, nearest name",
        "ours: replace or suggest",
        "fused and corrected",
    ):
        assert f"| {row} |" in text
    assert (tmp_path / "pictures" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert (ROOT / "training" / "RESULTS.md").read_bytes() == before
    with gzip.open(rows, "rt", encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file, delimiter="\t"))
    assert {r["method"] for r in written} >= {"left as typed", "ours: replace"}
    assert all(r["answer"] == r["typed"] and float(r["ms"]) >= 0 for r in written if r["method"] == "left as typed")
    ours = [r for r in written if r["method"] == "ours: replace or suggest" and r["set"] == "one edit"]
    assert sum(r["answer"] == r["meant"] for r in ours) / len(ours) > 0.8  # the shipped weights have 0.95 and more
    assert all(0 <= float(r["confidence"]) <= 1 for r in ours)


def test_a_part_that_does_not_exist_is_refused():
    """The message names the choices."""
    done = evaluate("--only", "everything")
    assert done.returncode == 1
    assert "spelling or retrieval" in done.stderr
    assert "Traceback" not in done.stderr
