"""Prints the dependencies of pyproject.toml without those named: `python docker/requirements.py pyarrow > requirements.txt`.

An image takes what it imports; `constraints.txt` then says which versions. Python 3.11 or later.
"""

import re
import sys
from pathlib import Path

import tomllib

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def name(requirement: str) -> str:
    """`uvicorn[standard]>=0.30` → `uvicorn`."""
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]


def main(left_out: list[str]) -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    if unknown := set(left_out) - {name(dependency) for dependency in dependencies}:
        sys.exit(f"not a dependency: {', '.join(sorted(unknown))}")
    print("\n".join(dependency for dependency in dependencies if name(dependency) not in left_out))


if __name__ == "__main__":
    main(sys.argv[1:])
