"""Changes to an index in place: how they are journalled, applied to the engine, checked and made final.

The engine alone loses what it has not flushed (ADR 12). So a change is written to the journal first, then to the engine; now
and then the engine is flushed, the manifest counts the items anew, and the journal starts again (`checkpoint`). Whoever opens
an index first applies what the journal still holds: records may be applied twice, in their order, without harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from struct import Struct
from typing import TextIO

import numpy as np
import numpy.typing as npt
import orjson
import qdrant_edge as qdrant

from app.domain import Item
from app.errors import IndexUnavailable, SetupError
from app.index.codes import note_added
from app.index.edge_engine import border, points
from app.index.journal import Journal
from app.index.manifest import Manifest
from app.index.schema import point_id, to_item
from app.index.versions import hold, share

JOURNAL = "journal"
NO_ITEM = 2**63  # a point that `schema.point_id` gives to no item
CHUNK = 32  # items between two turns of the event loop, about 3 ms

_LENGTH = Struct("<I")


@dataclass(frozen=True, slots=True)
class Change:
    """What one call changes.

    Attributes:
        upserted: items added or replaced, no id twice.
        vectors: their embeddings, float32 [upserted, dimensions].
        deleted: ids removed.
        items: how many items the index holds afterwards.
    """

    upserted: Sequence[Item]
    vectors: npt.NDArray[np.float32]
    deleted: Sequence[str]
    items: int

    def encode(self) -> bytes:
        head = orjson.dumps({"upserted": list(self.upserted), "deleted": list(self.deleted), "items": self.items})
        return _LENGTH.pack(len(head)) + head + self.vectors.astype("<f4").tobytes()

    @classmethod
    def decode(cls, body: bytes) -> Change:
        start = _LENGTH.size + _LENGTH.unpack_from(body)[0]
        head = orjson.loads(body[_LENGTH.size : start])
        items = [to_item(fields) for fields in head["upserted"]]
        vectors = np.frombuffer(body, "<f4", offset=start).reshape(len(items), -1) if items else np.empty((0, 0), np.float32)
        return cls(items, vectors.astype(np.float32), head["deleted"], head["items"])

    def apply(self, shard: qdrant.EdgeShard) -> Iterator[None]:
        """Write it to the engine, pausing after each `CHUNK` items."""
        for at in range(0, len(self.upserted), CHUNK):
            added = points(self.upserted[at : at + CHUNK], self.vectors[at : at + CHUNK])
            with border("items cannot be written"):
                shard.update(qdrant.UpdateOperation.upsert_points(added))
            yield
        if self.deleted:
            removed: list[qdrant.PointId] = [point_id(one) for one in self.deleted]
            with border("items cannot be removed"):
                shard.update(qdrant.UpdateOperation.delete_points(removed))
            yield


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine's directory, loaded and locked. `journal` is None when it was opened to read."""

    directory: Path
    shard: qdrant.EdgeShard
    manifest: Manifest
    journal: Journal | None
    lock: TextIO

    @contextmanager
    def or_closed(self) -> Iterator[Opened]:
        """Closes everything when the block raises."""
        with ExitStack() as on_failure:
            on_failure.enter_context(self.lock)
            if self.journal is not None:
                on_failure.callback(self.journal.close)
            on_failure.callback(self.shard.close)
            yield self
            on_failure.pop_all()


def open_shard(path: Path, *, alone: bool, owner: int | None = None) -> Opened:
    """Load what `path` names now, `alone` to change it, after finishing what a killed server left in the journal.

    Args:
        owner: see `versions.hold`.

    Raises:
        IndexUnavailable: there is no index, another version wrote it, or its files are damaged or cannot be written.
        SetupError: another process has it open, and one of the two wants it alone.
    """
    while True:
        directory = path.resolve()  # once: manifest and files must come from one version
        try:
            Manifest.read(directory)
            opened = _loaded(path, directory, alone, owner)
        except (IndexUnavailable, SetupError):
            if path.resolve() == directory:  # otherwise a rebuild replaced it meanwhile: take the new one
                raise
            continue
        if not alone or path.resolve() == directory:
            return opened
        opened.shard.close()
        opened.lock.close()


def _loaded(path: Path, directory: Path, alone: bool, owner: int | None) -> Opened:
    unfinished = pending(directory)
    with ExitStack() as on_failure:
        lock = on_failure.enter_context(hold(directory, alone=alone or unfinished, owner=owner))
        with border(f"the index {path} cannot be opened"):
            shard = qdrant.EdgeShard.load(str(directory / "shard"))
        on_failure.callback(shard.close)
        journal = on_failure.enter_context(closing(Journal(directory / JOURNAL))) if alone or unfinished else None
        manifest = recovered(path, directory, shard, journal)
        if unfinished and not alone:
            share(lock)
            assert journal is not None
            journal.close()
        on_failure.pop_all()
    return Opened(directory, shard, manifest, journal if alone else None, lock)


def has_graphs(directory: Path) -> bool:
    """Whether an earlier version of this program built the index at `directory`, with graphs, which are not searched now.

    Raises:
        IndexUnavailable: the engine's configuration is damaged.
    """
    path = directory / "shard" / "edge_config.json"
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["hnsw_config"]["m"])
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise IndexUnavailable(f"{path} is damaged ({exc!r}): build the index again") from exc


def pending(directory: Path) -> bool:
    """Whether a server was killed before what it acknowledged was made final."""
    log = directory / JOURNAL
    return log.exists() and log.stat().st_size > 0


def recovered(path: Path, directory: Path, shard: qdrant.EdgeShard, journal: Journal | None) -> Manifest:
    """The manifest of a shard just loaded, after what the journal holds, if there is one, has been applied and made final.

    Raises:
        IndexUnavailable: the shard does not hold what manifest and journal say, or cannot be written.
    """
    manifest = Manifest.read(directory)
    expected = manifest.items
    upserted: list[int] = []
    for body in journal.records() if journal else ():
        change = Change.decode(body)
        for _ in change.apply(shard):
            pass
        upserted += [point_id(item.id) for item in change.upserted]
        expected = change.items
    if journal and journal.size:
        outnumber(shard)
    held = items_in(shard)
    if held != expected:
        raise IndexUnavailable(f"the index {path} is damaged: it holds {held} of {expected} items; build it again")
    return checkpoint(directory, manifest, shard, journal, upserted) if journal and journal.size else manifest


def outnumber(shard: qdrant.EdgeShard) -> None:
    """Carry the segment's number past those of all its points.

    The engine numbers its operations from the segment's number when it was loaded, and passes over, in silence, one that is not
    above its point's. A kill in the middle of a flush leaves points above their segment, and applying the journal again leaves
    it so: what is passed over does not move the segment. A point that comes and goes does.
    """
    with border("the index cannot be written"):
        shard.update(qdrant.UpdateOperation.upsert_points([qdrant.Point(NO_ITEM, {}, {})]))
        shard.update(qdrant.UpdateOperation.delete_points([NO_ITEM]))


def checkpoint(
    directory: Path, manifest: Manifest, shard: qdrant.EdgeShard, journal: Journal, upserted: Sequence[int]
) -> Manifest:
    """Make the engine's state final and start the journal again; a crash at any point leaves what `recovered` can finish.

    Args:
        upserted: the points that the journal added or replaced.
    """
    with border("the index cannot be flushed"):
        shard.flush()
    manifest = replace(manifest, items=items_in(shard))
    note_added(directory, upserted)
    manifest.write(directory)
    journal.rollback(0)
    return manifest


def items_in(shard: qdrant.EdgeShard) -> int:
    with border("the index cannot be counted"):
        return shard.count(qdrant.CountRequest(exact=True))
