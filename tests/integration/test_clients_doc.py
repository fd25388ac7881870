"""docs/clients.md: every example prints what it says, against a served stack and its own Triton."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from app.settings import ROOT
from tests.conftest import Serving

TEXT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"## ([^\n]+)|```python\n(.*?)```\n```text\n(.*?)```", TEXT, re.DOTALL)


def examples() -> list[object]:
    found, section = [], ""
    for heading, code, printed in EXAMPLES:
        section = heading or section
        if code:
            found.append(pytest.param(code, printed, id=f"{section}-{len(found)}"))
    return found


@pytest.fixture(scope="module")
def addresses(serving: Serving) -> dict[str, str]:
    """What the examples say → where it is now: Triton's ports are those that `searchbar serve` announced."""
    found = re.search(r"gRPC (127\.0\.0\.1:\d+), HTTP http://(127\.0\.0\.1:\d+)", serving.log.read_text())
    assert found, serving.log.read_text()
    return {
        "127.0.0.1:8080": serving.url.removeprefix("http://"),
        "127.0.0.1:8001": found[1],
        "127.0.0.1:8000": found[2],
    }


def test_every_example_is_found() -> None:
    """No block of Python in the document is without the text that it prints."""
    assert len(examples()) == TEXT.count("```python") >= 7


@pytest.mark.parametrize(("code", "printed"), examples())
def test_examples_print_what_they_say(addresses: dict[str, str], code: str, printed: str) -> None:
    """Copied into a file and run, with the addresses of this run."""
    for written, here in addresses.items():
        code = code.replace(written, here)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
