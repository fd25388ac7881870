"""The command line: help that teaches and errors that name the cure."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from tests.conftest import SEARCHBAR


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"COLUMNS": "200", "PATH": "/usr/bin:/bin"}
    return subprocess.run([SEARCHBAR, *arguments], capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.parametrize("command", ["serve", "index", "evaluate"])
def test_help_says_what_a_command_is_for(command: str) -> None:
    """Each command explains itself and its options."""
    done = run(command, "--help")
    assert done.returncode == 0
    assert "--help" in done.stdout
    assert len(done.stdout) > 300


def test_a_catalogue_that_is_not_there_is_named(tmp_path: Path) -> None:
    """No server is started for a file that does not exist."""
    done = run("index", str(tmp_path / "none.csv"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "none.csv" in done.stderr
    assert not (tmp_path / "out").exists()


def test_training_without_its_extra_names_the_command_that_installs_it(tmp_path: Path) -> None:
    """Serving installs no PyTorch; who asks for training learns where it is."""
    if importlib.util.find_spec("torch"):
        pytest.skip("the training extra is installed here")
    done = run("train", "speller", "--catalogue", "x.csv", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "make train" in done.stderr
    assert "Traceback" not in done.stderr
