"""Reading an index ahead, while another process writes in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from app.index.edge import read_ahead

COMES_AND_GOES = """
import os
print("begun", flush=True)
while True:
    os.makedirs("shard/.atomicwrite/below", exist_ok=True)
    with open("shard/.atomicwrite/below/file", "wb") as file:
        file.write(b"x")
    os.remove("shard/.atomicwrite/below/file")
    os.rmdir("shard/.atomicwrite/below")
    os.rmdir("shard/.atomicwrite")
"""


def test_folders_that_go_meanwhile_are_passed_over(tmp_path: Path) -> None:
    """The engine of another process writes through folders that it takes away again."""
    (tmp_path / "shard").mkdir()
    (tmp_path / "shard" / "kept").write_bytes(b"x" * 300_000)
    with subprocess.Popen([sys.executable, "-c", COMES_AND_GOES], cwd=tmp_path, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"begun\n"
            for _ in range(3000):
                read_ahead(tmp_path)
        finally:
            other.kill()
