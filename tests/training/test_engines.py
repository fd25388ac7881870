"""The graphs that TensorRT plans are built from, made by the real command and judged without TensorRT."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from app.engine_repository import ENGINES
from app.settings import Settings
from tests.conftest import SEARCHBAR
from tests.training.conftest import Done, Train


@pytest.fixture(scope="module")
def exported(run: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The folder of the exported graphs, and what the command said."""
    out = tmp_path_factory.mktemp("onnx")
    return out, run("searchbar", "engines", "export", "--out", out)


def test_exported_graphs_are_what_tensorrt_supports(exported: tuple[Path, Done]) -> None:
    """Every operator and type is on TensorRT's list, shapes are sound and free of the data, inputs are the profiles'."""
    out, done = exported
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in out.iterdir()} == {f"{engine}.onnx" for engine in ENGINES}
    assert done.stdout.count(": sound") == len(ENGINES)


def test_the_cpu_graphs_are_refused(run: Train, tmp_path: Path) -> None:
    """The int8 graphs that ship are none for TensorRT, and the check says why: it can fail."""
    for engine in ENGINES:
        shutil.copy(Settings().model_repository / engine / "1" / "model.onnx", tmp_path / f"{engine}.onnx")
    done = run("searchbar", "engines", "check", "--onnx", tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("com.microsoft") == len(ENGINES) and ": sound" not in done.stdout


def test_what_the_check_refuses(run: Train, tmp_path: Path) -> None:
    """A shape that depends on the data, a type that is not listed, axes that are computed, an opset and a rank too many."""
    done = run("python", "-P", Path(__file__).parent / "spoilt_graphs.py", tmp_path)
    assert done.returncode == 0, done.stderr


def test_fp32_and_int8_agree_within_what_is_documented(exported: tuple[Path, Done], tmp_path: Path) -> None:
    """The int8 graphs that ship answer as the fp32 ones do, within docs/adr/0015-tensorrt.md, and not to the last digit."""
    made = subprocess.run([SEARCHBAR, "engines", "repository", tmp_path / "models", "--onnx", exported[0]], capture_output=True)
    assert made.returncode == 0, made.stderr
    command = [
        SEARCHBAR,
        "parity",
        "--reference",
        tmp_path / "models",
        "--candidate",
        "local",
        "--out",
        tmp_path / "report.json",
    ]
    limits = ["--texts", "0.95", "--logprob", "1.5", "--cosine", "0.998", "--overlap", "0.95"]
    done = subprocess.run([*command, "--queries", "60", "--items", "300", *limits], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["logprob_p99"] > 0.01 and report["cosine_min"] < 0.99999, "int8 was compared with itself"
