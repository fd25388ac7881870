"""docs/deploy.md: what it says was run is run by a test, and the rest says that it was not."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.settings import ROOT

TEXT = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = [
    pytest.param(*found, id=found[1].split("\n")[0][:40])
    for found in re.findall(r"([^\n]*(?:\n[^\n]+)*)\n\n```sh\n(.*?)```", TEXT, re.S)
]
COMMANDS = [line.split("#")[0].strip() for line in "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.S)).splitlines()]


@pytest.mark.parametrize(("said", "commands"), BLOCKS)
def test_every_block_says_who_ran_it(said: str, commands: str) -> None:
    """The paragraph before a block names the test that runs it, which mentions its tool, or says that it was not run."""
    tests = re.findall(r"Run by `(tests/[\w/]+\.py)`", said)
    assert bool(tests) != ("*not run here*" in said.lower())
    for path in tests:
        source = (ROOT / path).read_text(encoding="utf-8") + (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
        for line in commands.splitlines():
            tool = line.split()[0].rsplit("/", 1)[-1]
            assert tool in source or "serve.py" in source


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    """Targets and their variables are the Makefile's."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    _, target, *variables = command.split()
    assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
    assert all(re.search(rf"^{variable.split('=')[0]} \?=", makefile, re.MULTILINE) for variable in variables)


@pytest.mark.parametrize("command", [c for c in COMMANDS if "bin/searchbar" in c])
def test_options_exist(command: str) -> None:
    """Options of `searchbar` are shown by its help."""
    _, *words = shlex.split(command)
    path = list(takewhile(re.compile("[a-z]+").fullmatch, words))
    shown = CliRunner().invoke(cli, [*path, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).output
    assert all(word in shown for word in words if word.startswith("--"))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:docker|tests|triton)/[\w./-]+)`", TEXT))))
def test_files_named_exist(path: str) -> None:
    """Every path is there, but for what the export makes."""
    assert (ROOT / path).exists() or path.startswith("triton/engines/onnx")
