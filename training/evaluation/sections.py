"""RESULTS.md is made by several commands; each replaces its own section and leaves the others alone."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

TITLE = "# Results\n"


def write_section(path: Path, heading: str, command: str, body: str) -> str:
    """Put ``## heading`` with `body` and the `command` that made it into the Markdown file at `path`; returns the section.

    A section of that heading is replaced where it stands, a new one goes to the end.
    """
    made = f"Made by `{command}` on {date.today().isoformat()}, in one process on two CPU cores."
    section = f"## {heading}\n\n{made}\n\n{body.strip()}\n"
    text = path.read_text(encoding="utf-8") if path.exists() else TITLE
    found = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if found:
        text = text[: found.start()] + section + "\n" + text[found.end() :]
    else:
        text = text.rstrip("\n") + "\n\n" + section
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    return section
