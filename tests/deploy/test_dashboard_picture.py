"""The dashboard over a real Prometheus that scrapes a real run: every panel has data, and the picture is drawn.

Run as docs/deploy.md says: python -P docker/grafana/record.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT

RECORD = ROOT / "docker" / "grafana" / "record.py"
# No GPU in the machine, and nothing that fires; what is refused or left out has no series before it first happens.
EMPTY = {"GPU", "Alerts"}


@pytest.mark.timeout(290)
def test_every_panel_shows_something_of_a_real_run(demo_index: Path, tmp_path: Path) -> None:
    """Each panel's queries give series, but for those of a machine without a GPU and of alerts, of which there are none."""
    if not (shutil.which("prometheus") or shutil.which("prometheus", path=str(Path(sys.executable).parent))):
        pytest.skip("prometheus is not installed: `make deploy-tools` gets it where apt-get is")
    out = tmp_path / "dashboard.png"
    command = [sys.executable, "-P", str(RECORD), "--seconds", "12", "--rate", "5", "--quick", "--index", str(demo_index)]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = dict(re.findall(r"^(.+): (no|\d+) series$", done.stdout, re.MULTILINE))
    assert len(shown) > 15
    assert {title for title, series in shown.items() if series == "no"} - EMPTY == set()
    assert out.read_bytes().startswith(b"\x89PNG") and out.stat().st_size > 50_000
