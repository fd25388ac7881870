"""`manifest.json`: what an index directory holds and who may read it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from app.errors import IndexUnavailable

FORMAT = 1  # raise it when the payload or an encoding in ngrams.py changes: an older index would be misread
FILE = "manifest.json"
EXTERNAL = "external"  # an embedder whose weights this process could not see


def sync(path: Path) -> None:
    """Have a file's content, or the names in a directory, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Attributes:
    dimensions: length of the dense vectors.
    embedder: name or fingerprint of the model that made them; vectors of two models do not compare.
    items: how many items it holds.
    created: UTC time of the build, ISO 8601.
    source: file name of the catalogue it was built from.
    quantisation: what vectors are compared by: ``none`` (in full) or ``int8`` (the best scored again in full).
    passages: `passage_digest` of the program that embedded it; where it differs, no embedding is taken over.
    """

    dimensions: int
    embedder: str
    items: int
    created: str
    source: str
    format: int = FORMAT
    quantisation: str = "none"
    passages: str = ""

    def write(self, directory: Path) -> None:
        """Write it to `directory`, through to the disk; a crash leaves the old one or the new one.

        Raises:
            IndexUnavailable: the directory cannot be written.
        """
        fresh = directory / f"{FILE}.new"
        try:
            with fresh.open("w", encoding="utf-8") as file:
                json.dump(asdict(self), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, directory / FILE)
            sync(directory)
        except OSError as exc:
            raise IndexUnavailable(f"{directory / FILE} cannot be written ({exc.strerror})") from exc

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """The manifest of an index directory.

        Raises:
            IndexUnavailable: there is none, it is damaged, or another version of the program wrote it.
        """
        cure = "build it with `searchbar index FILE --out DIR`"
        try:
            found = json.loads((directory / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError as exc:
            raise IndexUnavailable(f"{directory} holds no index ({FILE} is missing): {cure}") from exc
        except (OSError, ValueError) as exc:
            raise IndexUnavailable(f"{directory / FILE} cannot be read ({exc}): {cure}") from exc
        written = found.get("format") if isinstance(found, dict) else None
        if written != FORMAT:
            raise IndexUnavailable(f"{directory} is an index of format {written}, this program reads format {FORMAT}: {cure}")
        try:
            return cls(**found)
        except TypeError as exc:
            raise IndexUnavailable(f"{directory / FILE} is damaged ({exc}): {cure}") from exc


def now() -> str:
    """The `Manifest.created` of an index that is made now."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
