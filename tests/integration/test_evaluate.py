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
    return subprocess.run(command, capture_output=True, text=True, timeout=280, env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"})


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
        "dense only",
        "fused and corrected",
        "SQLite FTS5, trigrams",
        "SQLite FTS5, words (BM25)",
        "rapidfuzz, all names",
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


def test_retrieval_is_measured_on_the_charts_of_a_data_directory_too(tmp_path: Path):
    """The charts have their tables, playlists among the queries, and a picture; every row with words finds what is clean."""
    songs = [(f"Artist {word}", f"{word} Song") for word in ("Amber", "Bronze", "Copper", "Diamond", "Emerald", "Flint")]
    columns = "artist\ttitle\talbum\tyear\tgenre\tbillboard_weeks\n"
    charts = "".join(f"{artist}\t{title}\t\t1999\tpop\t20\n" for artist, title in songs)
    (tmp_path / "charts.tsv").write_text(columns + charts, encoding="utf-8")
    listed = "".join(f"{name}\t\t{artist}\t{title}\n" for name in ("Sad Things", "Lorem") for artist, title in songs)
    (tmp_path / "playlists.tsv").write_text("playlist\tdescription\tartist\ttitle\n" + listed, encoding="utf-8")
    out, pictures = tmp_path / "R.md", tmp_path / "pictures"
    done = evaluate("--quick", "--only", "retrieval", "--data", tmp_path, "--out", out, "--pictures", pictures)
    assert done.returncode == 0, done.stderr
    text = out.read_text(encoding="utf-8")
    assert "searchbar evaluate --data DIR --quick --only retrieval" in text
    demo, charts = text.split("### Charts: 6 items")
    assert re.search(r"\| semantic, held out \(30\): precision@10 \|", demo)
    assert "playlist title, trained on (1): precision@10" in charts and "playlist title" not in demo
    assert "playlist title, a mere name (1): precision@10" in charts.split("Training pairs:")[1]
    assert "playlist title" not in charts.split("Training pairs:")[0]  # none of two titles is held out
    assert "(pictures/retrieval.png)" not in text and f"({pictures}/retrieval.png)" in charts
    assert (pictures / "retrieval.png").read_bytes().startswith(b"\x89PNG")
    for row in ("sparse only", "fused", "fused and corrected", "rapidfuzz, all names"):
        assert re.search(rf"^\| {row} \| 100\.0% \| 100\.0% \| 100\.0% \|", charts, re.MULTILINE), row
    sizes = re.findall(r"^\| [^|]+ \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|$", demo, re.MULTILINE)
    assert len(sizes) == 7 and all(float(memory) > 0 for _, memory in sizes)


def test_a_part_that_does_not_exist_is_refused():
    """The message names the choices."""
    done = evaluate("--only", "everything")
    assert done.returncode == 1
    assert "spelling or retrieval" in done.stderr
    assert "Traceback" not in done.stderr
