"""`searchbar tune --quick`: Model Analyzer and perf_analyzer on the embedded Triton, from start to end."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest

from app.errors import SetupError
from app.settings import ROOT
from tests.conftest import SEARCHBAR
from training.tuning.model_analyzer import COMMAND
from training.tuning.perf_analyzer import PerfAnalyzer
from training.tuning.plan import quick
from training.tuning.report import read_chosen

VENV = ROOT / ".venv-analyzer"
MODELS = ROOT / "triton" / "models"


@pytest.fixture
def tools() -> None:
    """Skips where `make analyzer` has not been run or perf_analyzer cannot start."""
    try:
        PerfAnalyzer.prepare(VENV)
    except SetupError as exc:
        pytest.skip(str(exc))
    if not (VENV / COMMAND).is_file():
        pytest.skip("no Model Analyzer: run `make analyzer`")


def configurations() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in MODELS.rglob("*.pbtxt")}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("tools")
def test_a_quick_run(tmp_path: Path) -> None:
    """Every model is measured by the tool meant for it, a choice is printed as a diff, and triton/models stays as it is."""
    before, out = configurations(), tmp_path / "results"
    done = subprocess.run([SEARCHBAR, "tune", "--quick", "--out", out], capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not measured" not in done.stderr, done.stderr
    with (out / "sweep.csv").open(encoding="utf-8") as file:
        sweep = list(csv.DictReader(file))
    assert len(sweep) == quick().measurements
    assert {row["model"] for row in sweep} == {"embedder", "speller"}
    assert all(float(row["inferences_per_s"]) > 0 for row in sweep)
    with (out / "model-analyzer.csv").open(encoding="utf-8") as file:
        profiled = list(csv.DictReader(file))
    assert {row["model"] for row in profiled} == {"embedder"} and len(profiled) >= 2
    assert "<html" in (out / "embedder.html").read_text(encoding="utf-8").lower()
    assert (out / "throughput.png").stat().st_size > 1000
    assert {"embedder", "speller"} <= set(read_chosen(out)[1])
    assert "# Tuned: triton/analyzer/results/sweep.csv" in done.stdout
    assert "| embedder |" in done.stdout
    assert configurations() == before
