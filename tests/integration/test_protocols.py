"""`searchbar bench protocols` on a real Triton."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.conftest import SEARCHBAR


def test_both_protocols_answer_alike(tmp_path: Path) -> None:
    """The command compares every answer bit for bit, prints a table and puts it into the file; nothing stays behind."""
    out = tmp_path / "performance.md"
    command = [SEARCHBAR, "bench", "protocols", "--calls", "10", "--rounds", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^\| `(\w+)` \| [\d,]+ µs, [\d,]+ µs \| [\d,]+ µs, [\d,]+ µs \|$", out.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows == ["embedder", "speller"]
    assert "| `speller` |" in done.stderr
