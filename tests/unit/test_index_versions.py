"""Atomic replacement of a directory, with crashes at every step."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.index.versions import new_version


def publish(out: Path, text: str) -> None:
    with new_version(out) as version:
        (version / "data").write_text(text)


def hidden(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if ".v-" in path.name)


def build_and_die(out: Path) -> None:
    with new_version(out) as version:
        (version / "data").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_new_version_replaces_the_old_one_whole(tmp_path: Path) -> None:
    """After a build the name gives the new version, one hidden directory remains, and open files stay readable."""
    out = tmp_path / "deep" / "demo"
    publish(out, "one")
    with (out / "data").open() as file:
        publish(out, "two")
        assert file.read() == "one"
    assert (out / "data").read_text() == "two"
    assert hidden(out.parent) == [os.readlink(out)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_build_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """An exception in a build, Ctrl-C included, must leave the old version named and nothing of the new one."""
    out = tmp_path / "demo"
    publish(out, "one")
    with pytest.raises(error), new_version(out) as version:
        (version / "data").write_text("half")
        raise error
    assert (out / "data").read_text() == "one"
    assert hidden(tmp_path) == [os.readlink(out)]


def test_a_killed_build_leaves_the_old_version_and_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    """SIGKILL in the middle must leave the old version in place and the lock free; the next build removes the remains."""
    out = tmp_path / "demo"
    publish(out, "one")
    process = multiprocessing.get_context("fork").Process(target=build_and_die, args=(out,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert (out / "data").read_text() == "one"
    assert len(hidden(tmp_path)) == 2
    publish(out, "two")
    assert (out / "data").read_text() == "two"
    assert hidden(tmp_path) == [os.readlink(out)]


def test_two_builds_of_one_index_do_not_meet(tmp_path: Path) -> None:
    """A second build of the same index must be turned away while the first runs; one of another index must not."""
    with new_version(tmp_path / "demo"):
        with pytest.raises(InvalidInput, match="another build"):
            publish(tmp_path / "demo", "x")
        publish(tmp_path / "demo.v-1", "y")
    assert (tmp_path / "demo.v-1" / "data").read_text() == "y"


def test_neighbours_are_left_alone(tmp_path: Path) -> None:
    """Removing old versions must not touch an index whose name begins the same, nor a link's target elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data").write_text("theirs")
    (tmp_path / "demo").symlink_to(elsewhere)
    publish(tmp_path / "demo.v-1", "y")
    publish(tmp_path / "demo", "x")
    assert (elsewhere / "data").read_text() == "theirs"
    assert (tmp_path / "demo.v-1" / "data").read_text() == "y"


def test_what_is_not_an_index_is_not_replaced(tmp_path: Path) -> None:
    """A directory with files, or a file, at the place of the index must be refused; an empty directory is taken."""
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "mine.mp3").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name in ("music", "file", "file/below"):
        with pytest.raises(InvalidInput, match="--out"):
            publish(tmp_path / name, "x")
    publish(tmp_path / "empty", "x")
    assert (tmp_path / "empty" / "data").read_text() == "x"
    assert (tmp_path / "music" / "mine.mp3").exists()
