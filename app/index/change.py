"""Changing an index: on a copy of the current version, which then takes its place."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from app.errors import InvalidInput
from app.index.edge_recovery import has_graphs
from app.index.edge_writer import EdgeWriter
from app.index.filling import passage_digest
from app.index.manifest import EXTERNAL, Manifest, now
from app.index.schema import point_id
from app.index.versions import LOCK, current_version, new_version

CHUNK = 1_000  # ids looked up and removed at a time
REBUILD = "index the whole catalogue with --mode replace"
NAMED = 10  # unknown ids that a report names


@dataclass(frozen=True, slots=True)
class RemovalReport:
    """Attributes:
    items: how many are left.
    removed: how many are not.
    unknown: the first ids that the index did not hold.
    unknown_count: how many there were of those.
    """

    items: int
    removed: int
    unknown: tuple[str, ...]
    unknown_count: int


def remove_items(ids: Iterable[str], out: Path) -> RemovalReport:
    """Remove the items with these ids from the index at `out`: a changed copy is put in its place.

    Raises:
        InvalidInput: `out` holds no index, or no item would be left.
        IndexUnavailable: the index cannot be read or written.
    """
    with new_version(out) as version, contextlib.ExitStack() as stack:
        old = required(out, current_version(out))
        manifest = Manifest.read(old)
        _copy(out, old, version)
        writer = EdgeWriter(version, manifest.dimensions, existing=True)
        stack.callback(writer.close)
        before = writer.items  # what a killed server left in the journal included
        unknown: list[str] = []
        unknown_count, wanted = 0, iter(dict.fromkeys(ids))
        while chunk := list(islice(wanted, CHUNK)):
            held = writer.held([point_id(item) for item in chunk])
            missing = [item for item in chunk if point_id(item) not in held]
            unknown_count += len(missing)
            unknown += missing[: NAMED - len(unknown)]
            writer.remove(list(held))
        items = writer.items
        if not items:
            raise InvalidInput(f"no item of {out} would be left: remove the directory instead")
        writer.finish(replace(manifest, items=items, created=now()))
    return RemovalReport(items, before - items, tuple(unknown), unknown_count)


def required(out: Path, old: Path | None) -> Path:
    if old is None:
        raise InvalidInput(f"{out} holds no index to change: build one with `searchbar index FILE --out {out}`")
    return old


def copy_to_change(out: Path, old: Path | None, version: Path, dimensions: int, embedder_name: str) -> EdgeWriter:
    """A writer on a copy of the current version. Not links: the engine changes mapped files in place."""
    old = required(out, old)
    manifest = Manifest.read(old)
    if EXTERNAL not in (manifest.embedder, embedder_name) and manifest.embedder != embedder_name:
        raise InvalidInput(f"{out} was built with other embedder weights: {REBUILD}")
    if manifest.passages != passage_digest():
        raise InvalidInput(f"{out} was built by a version of this program that embeds items in other words: {REBUILD}")
    if manifest.dimensions != dimensions:
        raise InvalidInput(f"{out} holds vectors of {manifest.dimensions} dimensions, not {dimensions}: {REBUILD}")
    _copy(out, old, version)
    return EdgeWriter(version, dimensions, existing=True)


def _copy(out: Path, old: Path, version: Path) -> None:
    """Everything but who holds it: the journal too, which the writer finishes on the copy."""
    if has_graphs(old):
        raise InvalidInput(f"{out} was built with graphs, by an earlier version of this program: {REBUILD}")
    shutil.copytree(old, version, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LOCK))
