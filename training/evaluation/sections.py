"""RESULTS.md is made by several commands; each replaces its own section and leaves the others alone."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

TITLE = "# Results\n"
HERE = "in one process on two CPU cores"


def write_section(path: Path, heading: str, command: str, body: str, where: str = HERE) -> str:
    """Put ``## heading`` with `body`, and the `command` that made it and `where`, into the Markdown file at `path`.

    Returns the section. A section of that heading is replaced where it stands, a new one goes to the end.
    """
    made = f"Made by `{command}` on {date.today().isoformat()}, {where}."
    section = f"## {heading}\n\n{made}\n\n{body.strip()}\n"
    text = path.read_text(encoding="utf-8") if path.exists() else TITLE
    found = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    text = text[: found.start()] + section + "\n" + text[found.end() :] if found else text.rstrip("\n") + "\n\n" + section
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    return section
