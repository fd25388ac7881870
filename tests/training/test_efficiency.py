"""`searchbar train report --quick`: two settings really measured, each in its own process, and written down alike."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT

BIN = ROOT / ".venv-train" / "bin"
NEEDED = "import matplotlib, psutil, torch, transformers"
TIMEOUT_S = 900  # importing PyTorch three times and a hundred examples take a minute on two busy cores

pytestmark = pytest.mark.timeout(TIMEOUT_S + 60)


@dataclass(frozen=True)
class Made:
    """What a run left behind."""

    raw: dict[str, Any]
    results: str
    docs: Path

    @property
    def settings(self) -> list[dict[str, Any]]:
        return list(self.raw["settings"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    if not (BIN / "python").exists() or subprocess.run([BIN / "python", "-c", NEEDED], cwd=BIN, capture_output=True).returncode:
        pytest.skip("no .venv-train with the train extra: `make train` makes it")
    out = tmp_path_factory.mktemp("report")
    (out / "training").mkdir()
    (out / "training" / "RESULTS.md").write_text("# Results\n\n## Spelling\n\nkept\n", encoding="utf-8")
    command = [BIN / "searchbar", "train", "report", "--quick", "--out", out]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    raw = json.loads((out / "training" / "runs" / "efficiency.json").read_text(encoding="utf-8"))
    return Made(raw, (out / "training" / "RESULTS.md").read_text(encoding="utf-8"), out / "docs")


def test_settings_train_on_the_same_examples(made: Made) -> None:
    """Both settings see every example once, in steps of their own size, and end no worse than a guess."""
    assert [(s["amp"], s["batch_size"], s["compiled"]) for s in made.settings] == [(False, 32, False), (True, 64, False)]
    for setting in made.settings:
        assert setting["examples"] == made.raw["examples"] == setting["steps"] * setting["batch_size"]
        assert 0 < setting["loss"] < 9  # ln(4096) is 8.3


def test_rates_and_ratios_follow_from_the_clock(made: Made) -> None:
    """Examples a second and ratios are the wall time's; the baseline's ratio is one."""
    baseline = made.settings[0]
    assert baseline["ratio"] == 1.0
    for setting in made.settings:
        assert setting["wall_s"] > 0
        assert setting["examples_per_s"] == pytest.approx(setting["examples"] / setting["wall_s"])
        assert setting["ratio"] == pytest.approx(baseline["wall_s"] / setting["wall_s"])


def test_the_device_was_watched(made: Made) -> None:
    """Utilisation is a share, memory is what a process with PyTorch can have, and other work on the machine is recorded."""
    machine = made.raw["machine"]
    assert machine["device"] in ("cpu", "cuda") and machine["name"] and machine["torch"] and machine["date"]
    for setting in made.settings:
        assert 0 < setting["utilisation"] <= 1
        assert 20 < setting["peak_memory_mb"] < 20_000
        assert setting["others"] >= 0


def test_table_and_raw_figures_agree(made: Made) -> None:
    """The section has a row for each setting with the JSON's figures, names its device, and leaves other sections alone."""
    assert "## Spelling\n\nkept\n" in made.results
    section = made.results.split("## Training efficiency\n", 1)[1]
    assert "`make train-report`" in section and made.raw["machine"]["name"] in section
    assert ("The aim on a GPU" in section) == (made.raw["machine"]["device"] == "cpu")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if " · batch " in line]
    assert rows == [
        [
            s["label"], f"{s['examples_per_s']:,.0f}", f"{s['ratio']:.2f}", f"{s['wall_s']:.2f}", f"{s['utilisation']:.1%}",
            f"{s['peak_memory_mb']:,.0f}", f"{s['loss']:.3f}", f"{s['warm_up_s']:.1f}",
        ]
        for s in made.settings
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["training-utilisation.png", "training-time.png"])
def test_plots_are_pictures(made: Made, name: str) -> None:
    """Each plot named in the section is a PNG as wide as a page."""
    assert f"docs/{name}" in made.results
    picture = (made.docs / name).read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(picture[16:20], "big") == 1280


def test_a_setting_that_fails_is_named_with_its_reason(made: Made, tmp_path: Path) -> None:
    """What a setting's process died of is said in one line; it is not left out in silence."""
    script = (
        "import sys, torch; from pathlib import Path; from training.efficiency import Setting, measure_apart\n"
        "data = Path(sys.argv[1]); torch.save([], data)\n"
        "measure_apart(Setting(amp=True, batch_size=64), 'small', data)"
    )
    arguments = [BIN / "python", "-c", script, tmp_path / "none.pt"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode
    assert "SetupError: AMP · batch 64 did not run: RuntimeError" in done.stderr
