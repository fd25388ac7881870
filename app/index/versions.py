"""Atomic replacement of a directory: `out` is a symbolic link to the current one of its hidden sibling versions.

    parent/demo            → .demo.v-3f9c…        the link that readers open
    parent/.demo.v-3f9c…/                         the version it names
    parent/.demo.lock                             held while a build runs

One `rename` moves the link, so a reader sees the old version or the new one whatever happens in between.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import InvalidInput


@contextmanager
def new_version(out: Path) -> Iterator[Path]:
    """An empty directory to build in, which `out` names once the block ends; when the block raises, `out` is as before.

    What earlier builds left behind, crashed ones included, is removed. Processes that have the old version open keep it.

    Raises:
        InvalidInput: `out` cannot be replaced or written, or another build of it is running; the message names the cure.
    """
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = (out.parent / f".{out.name}.lock").open("w")
    except OSError as exc:
        raise InvalidInput(f"{out} cannot be written ({exc.strerror}): choose another --out") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise InvalidInput(f"another build of {out} is running: wait for it or stop it") from exc
        _check_replaceable(out)
        version = out.parent / f".{out.name}.v-{secrets.token_hex(6)}"
        version.mkdir()
        try:
            yield version
            _publish(version, out)
        except BaseException:
            shutil.rmtree(version, ignore_errors=True)
            raise
        _remove_others(version, out)


def _check_replaceable(out: Path) -> None:
    if out.is_symlink() or not out.exists():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise InvalidInput(f"{out} exists and was not made by `searchbar index`: move it away or choose another --out")


def _publish(version: Path, out: Path) -> None:
    link = version.with_name(version.name + ".link")
    link.symlink_to(version.name, target_is_directory=True)
    try:
        if out.is_dir() and not out.is_symlink():
            out.rmdir()
        os.replace(link, out)
    except BaseException:
        link.unlink(missing_ok=True)
        raise
    directory = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _remove_others(version: Path, out: Path) -> None:
    ours = re.compile(rf"\.{re.escape(out.name)}\.v-[0-9a-f]{{12}}(\.link)?")
    for other in out.parent.iterdir():
        if other == version or not ours.fullmatch(other.name):
            continue
        if other.is_symlink():
            other.unlink()
        else:
            shutil.rmtree(other, ignore_errors=True)
