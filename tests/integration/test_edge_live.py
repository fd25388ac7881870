"""The embedded index while it is changed in place: who may open it, and what a crash leaves for the next one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.domain import IndexQuery
from app.errors import IndexUnavailable, InvalidInput, SetupError
from app.index.change import remove_items
from app.index.edge import EdgeIndex
from app.index.edge_live import LiveEdgeIndex
from app.index.edge_recovery import JOURNAL
from app.index.edge_writer import EdgeWriter
from app.index.filling import passage_digest
from app.index.manifest import Manifest
from app.index.versions import LOCK, new_version
from tests.integration.upsert_for_ever import REPLACED, added, replaced, vectors

DIMENSIONS = 64


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An index as `searchbar index` leaves it: a link to a version."""
    with new_version(tmp_path / "songs") as version:
        writer = EdgeWriter(version, DIMENSIONS)
        writer.add(replaced(0), vectors(REPLACED, DIMENSIONS))
        writer.finish(Manifest(DIMENSIONS, "drawn", REPLACED, "2026-01-01T00:00:00+00:00", "test", passages=passage_digest()))
        writer.close()
    return tmp_path / "songs"


async def crashed(out: Path, copy: Path) -> Path:
    """A copy of the index at a moment when two changes are acknowledged and nothing is flushed."""
    live = LiveEdgeIndex.open(out)
    new = added(1)
    await live.upsert(new, vectors(len(new), DIMENSIONS))
    await live.delete([item.id for item in replaced(0)[:10]])
    version = copy.with_name(f".{copy.name}.v-0123456789ab")
    shutil.copytree(out, version, ignore=shutil.ignore_patterns(LOCK))
    copy.symlink_to(version.name)
    await live.close()
    return copy


async def test_one_process_changes_it_and_nobody_else_has_it_open(out: Path) -> None:
    """Readers share; a changer is alone, whichever path leads there; a build is refused; each error names its cure."""
    first, second = EdgeIndex.open(out), EdgeIndex.open(out)
    with pytest.raises(SetupError, match="SEARCHBAR_ADMIN_KEY"):
        LiveEdgeIndex.open(out)
    await first.close()
    await second.close()
    live = LiveEdgeIndex.open(out)
    for path in (out, out.resolve()):
        for kind in (EdgeIndex, LiveEdgeIndex):
            with pytest.raises(SetupError, match="stop that server"):
                kind.open(path)
    with pytest.raises(InvalidInput, match="--out"), new_version(out):
        pass
    await live.close()
    with new_version(out) as version, pytest.raises(SetupError, match="searchbar index"):
        (version / "data").touch()
        LiveEdgeIndex.open(out)


async def test_a_reader_finishes_what_a_crash_left(out: Path, tmp_path: Path) -> None:
    """Also the first of several readers sees every acknowledged change; the next has nothing left to do."""
    copy = await crashed(out, tmp_path / "copy")
    assert (copy / JOURNAL).stat().st_size > 0
    readers = [EdgeIndex.open(copy), EdgeIndex.open(copy)]
    for reader in readers:
        expected = {item.id for item in replaced(0)[10:] + added(1)}
        assert {item.id async for item in reader.items()} == expected
        [hits] = await reader.query([IndexQuery("new song 1 7", None, 3)])
        assert hits[0].item.id == "new-1-7"
        await reader.close()
    assert (copy / JOURNAL).stat().st_size == 0
    assert Manifest.read(copy).items == len(expected)


async def test_a_changed_copy_has_what_a_crash_left(out: Path, tmp_path: Path) -> None:
    """`searchbar index` that changes an index takes over what a killed server acknowledged."""
    copy = await crashed(out, tmp_path / "copy")
    report = remove_items(["new-1-0"], copy)
    assert (report.removed, report.unknown_count) == (1, 0)
    reader = EdgeIndex.open(copy)
    assert {item.id async for item in reader.items()} == {item.id for item in replaced(0)[10:] + added(1)[1:]}
    await reader.close()


async def test_changes_after_a_torn_flush_are_not_passed_over(out: Path, tmp_path: Path) -> None:
    """Killed when the engine had written its points' versions and not yet its segment's: later changes count all the same."""
    live = LiveEdgeIndex.open(out)
    (segment,) = (out / "shard" / "segments").glob("*/segment.json")
    before = segment.read_bytes()
    await live.upsert(replaced(1) + added(1), vectors(REPLACED + len(added(1)), DIMENSIONS))
    live._open_shard().flush()
    copy = tmp_path / "copy"
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns(LOCK))
    (copy / segment.relative_to(out)).write_bytes(before)
    await live.close()
    await LiveEdgeIndex.open(copy).close()
    again = LiveEdgeIndex.open(copy)
    await again.delete([item.id for item in added(1)])
    await again.upsert(replaced(2), vectors(REPLACED, DIMENSIONS))
    assert await again.get([item.id for item in added(1)]) == []
    assert {item.title for item in await again.get(["old-0", "old-99"])} == {"Song 0 version 2", "Song 99 version 2"}
    await again.close()


async def test_damage_is_told_from_live_changes(out: Path, tmp_path: Path) -> None:
    """A journal cut before a whole record, and a manifest of another index, are refused: items are missing."""
    copy = await crashed(out, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    EdgeIndex.open(copy)._lock.close()
    assert json.loads((copy / "manifest.json").read_text())["items"] == manifest["items"] + 30
    (copy / "manifest.json").write_text(json.dumps(manifest))
    for kind in (EdgeIndex, LiveEdgeIndex):
        with pytest.raises(IndexUnavailable, match="damaged: it holds 130 of 100"):
            kind.open(copy)
