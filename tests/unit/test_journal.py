"""The journal of live changes: torn and damaged records."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import IndexUnavailable
from app.index.journal import Journal

BODIES = [b"first", b"", b"third" * 1000]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "journal")
    for body in BODIES:
        journal.append(body)
    journal.close()
    return tmp_path / "journal"


def test_records_come_back_in_order(path: Path) -> None:
    """What was appended is read by the next opening, and appended to."""
    journal = Journal(path)
    assert list(journal.records()) == BODIES
    journal.append(b"fourth")
    assert list(journal.records()) == [*BODIES, b"fourth"]
    journal.close()


@pytest.mark.parametrize("left", [pytest.param(at, id=f"{at} bytes left") for at in (1, 4, 8, 9, 13, 14, 20, 21, 22, 4000)])
def test_a_torn_end_is_cut_off(path: Path, left: int) -> None:
    """Wherever a crash cuts the file, the whole records before it are there and the next one fits behind them."""
    path.write_bytes(path.read_bytes()[:left])
    whole = [body for body, end in zip(BODIES, (13, 21, 5029), strict=True) if end <= left]
    journal = Journal(path)
    assert list(journal.records()) == whole
    journal.append(b"next")
    journal.close()
    again = Journal(path)
    assert list(again.records()) == [*whole, b"next"]
    again.close()


def test_an_end_that_was_never_written_is_cut_off(path: Path) -> None:
    """After a power cut a file may have its length but not its last bytes."""
    path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    journal = Journal(path)
    assert list(journal.records()) == BODIES[:2]
    journal.close()


def test_damage_before_the_end_is_no_torn_end(path: Path) -> None:
    """Acknowledged records behind a damaged one must not be dropped without a word."""
    content = bytearray(path.read_bytes())
    content[9] ^= 1
    path.write_bytes(content)
    with pytest.raises(IndexUnavailable, match="damaged"):
        Journal(path)


def test_a_rollback_forgets_the_records_behind_it(path: Path) -> None:
    """The journal goes on from there."""
    journal = Journal(path)
    before = journal.append(b"failed")
    journal.rollback(before)
    journal.append(b"done")
    assert list(journal.records()) == [*BODIES, b"done"]
    journal.rollback(0)
    assert list(journal.records()) == []
    journal.close()
