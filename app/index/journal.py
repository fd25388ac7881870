"""An append-only journal of changes that are acknowledged but that the engine has not flushed yet.

A record is its length and CRC-32 (little-endian, 32 bits each) and then its body. A record torn by a crash can only be the last
one and was never acknowledged: it is cut off when the journal is opened.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

from app.errors import IndexUnavailable
from app.index.manifest import sync

_HEAD = Struct("<II")


class Journal:
    """For one process at a time. `append` returns once its record is on the disk.

    Raises:
        IndexUnavailable: the file cannot be read or written, or a record before the last is damaged (every method).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise IndexUnavailable(f"{path} cannot be opened ({exc.strerror})") from exc
        self.size = 0
        try:
            for body in self.records():
                self.size += _HEAD.size + len(body)
            self.rollback(self.size)
            sync(path.parent)
        except BaseException:
            self.close()
            raise

    def records(self) -> Iterator[bytes]:
        """The bodies of all whole records, oldest first."""
        try:
            end, at = os.fstat(self._file).st_size, 0
            while at + _HEAD.size <= end:
                length, checksum = _HEAD.unpack(os.pread(self._file, _HEAD.size, at))
                following = at + _HEAD.size + length
                if following > end:
                    return
                body = os.pread(self._file, length, at + _HEAD.size)
                if zlib.crc32(body) != checksum:
                    if following < end:
                        raise IndexUnavailable(f"{self._path} is damaged at byte {at}: build the index again")
                    return
                yield body
                at = following
        except OSError as exc:
            raise IndexUnavailable(f"{self._path} cannot be read ({exc.strerror})") from exc

    def append(self, body: bytes) -> int:
        """Add a record; returns the size before it, for `rollback`. Nothing is added when it fails."""
        before = self.size
        record = memoryview(_HEAD.pack(len(body), zlib.crc32(body)) + body)
        try:
            while record:
                record = record[os.write(self._file, record) :]
            os.fsync(self._file)
        except OSError as exc:
            self.rollback(before)
            raise IndexUnavailable(f"{self._path} cannot be written ({exc.strerror})") from exc
        self.size = os.fstat(self._file).st_size
        return before

    def rollback(self, size: int) -> None:
        """Cut the journal to `size` bytes."""
        try:
            if os.fstat(self._file).st_size != size:
                os.ftruncate(self._file, size)
                os.fsync(self._file)
        except OSError as exc:
            raise IndexUnavailable(f"{self._path} cannot be cut ({exc.strerror})") from exc
        self.size = size

    def close(self) -> None:
        """Release the file. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
