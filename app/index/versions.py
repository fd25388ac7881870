"""Atomic replacement of a directory: `out` is a symbolic link to the current one of its hidden sibling versions.

    parent/demo            → .demo.v-3f9c…        the link that readers open
    parent/.demo.v-3f9c…/                         the version it names
    parent/.demo.lock                             held while a build runs
    parent/.demo.v-3f9c…/lock                     shared by readers and builds, held alone by who changes it in place

One `rename` moves the link, so a reader sees the old version or the new one whatever happens in between.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from app.errors import InvalidInput, SetupError
from app.index.manifest import FILE, sync

LOCK = "lock"


def hold(version: Path, *, alone: bool, owner: int | None = None) -> TextIO:
    """The open lock file of a version, locked; closing it, or the end of the process, gives the lock back.

    Args:
        alone: to change the version in place, while nobody else has it open; otherwise to read it.
        owner: id of the process to stop, as others are told; this one when not given.

    Raises:
        SetupError: somebody else has it open and one of the two wants it alone; the message names the cure.
    """
    try:
        lock = (version / LOCK).open("a+")
    except OSError as exc:
        raise SetupError(f"{version} cannot be locked ({exc.strerror}): it must be writable") from exc
    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        lock.seek(0)
        changer = lock.read()
        lock.close()
        if changer:
            raise SetupError(f"{version} is served with live updates by {changer}: stop that server first") from exc
        raise SetupError(
            f"{version} is open in another process (a server without an admin key, or `searchbar index`): stop it first, "
            "or unset SEARCHBAR_ADMIN_KEY to serve without live updates"
        ) from exc
    lock.truncate(0)
    if alone:
        lock.write(f"process {owner or os.getpid()}")
        lock.flush()
    return lock


def share(lock: TextIO) -> None:
    """Let readers in on a version that was held alone."""
    lock.truncate(0)
    fcntl.flock(lock, fcntl.LOCK_SH)


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
    with lock, ExitStack() as held:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise InvalidInput(f"another build of {out} is running: wait for it or stop it") from exc
        _check_replaceable(out)
        if (out / FILE).exists():
            held.enter_context(_kept_from_change(out))
        version = out.parent / f".{out.name}.v-{secrets.token_hex(6)}"
        version.mkdir()
        try:
            yield version
            _publish(version, out)
        except BaseException:
            shutil.rmtree(version, ignore_errors=True)
            raise
        _remove_others(version, out)


def _kept_from_change(out: Path) -> TextIO:
    """Hold the present version as a reader does: what a live server acknowledged must not vanish with it."""
    try:
        return hold(out.resolve(), alone=False)
    except SetupError as exc:
        raise InvalidInput(f"{exc}, or choose another --out") from exc


def current_version(out: Path) -> Path | None:
    """The directory that `out` names now; None when there is none. Inside `new_version` it cannot change or go."""
    return out.resolve() if out.is_symlink() and out.is_dir() else None


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
    sync(out.parent)


def _remove_others(version: Path, out: Path) -> None:
    ours = re.compile(rf"\.{re.escape(out.name)}\.v-[0-9a-f]{{12}}(\.link)?")
    for other in out.parent.iterdir():
        if other == version or not ours.fullmatch(other.name):
            continue
        if other.is_symlink():
            other.unlink()
        else:
            shutil.rmtree(other, ignore_errors=True)
