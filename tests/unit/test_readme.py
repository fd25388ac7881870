"""The README says what the code does: settings, commands, make targets and files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.settings import ROOT, Settings

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_documented_with_its_default():
    """The table has one row for each setting and no other."""
    documented = dict(re.findall(r"^\| `SEARCHBAR_([A-Z_]+)` \| `?([^|`]*)`? \|", README, re.MULTILINE))
    expected = {name.upper(): shown(field.default) for name, field in Settings.model_fields.items()}
    assert {name: value.strip() for name, value in documented.items()} == expected


def shown(default: object) -> str:
    if isinstance(default, Path):
        return str(default.relative_to(ROOT))
    return "unset" if default is None else str(default)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)\b(?=[ `\n])", README)) - {"them"}))
def test_every_make_target_named_exists(target: str):
    """`make TARGET` in the README is a target of the Makefile."""
    known = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"make {target}\b", known)


@pytest.mark.parametrize("line", sorted(set(re.findall(r"bin/searchbar ([^#\n`]+)", README))))
def test_every_searchbar_command_has_the_options_it_is_shown_with(line: str):
    """Sub-commands and options in the README exist."""
    words = line.split()
    path = [
        w
        for w in words[:2]
        if re.fullmatch(r"serve|index|unindex|keys|new|list|revoke|train|speller|reranker|embedder|evaluate", w)
    ]
    result = CliRunner().invoke(cli, [*path, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    for option in (w for w in words if w.startswith("--")):
        assert option in result.output


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_linked_file_exists(target: str):
    """No link of the README is dead."""
    assert (ROOT / target).exists()
