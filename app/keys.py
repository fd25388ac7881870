"""API keys: a JSON file of their digests, and the ring of those that count now.

A key is 32 bytes from the system's random source, shown once. Its SHA-256 is what is kept: nobody guesses 256 random bits, so
the slow hash that a password needs would only slow down every request (docs/adr/0020-access.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from app.errors import InvalidInput, SetupError
from app.rate import TokenBucket

log = logging.getLogger("searchbar.keys")

PREFIX = "sb_"  # what scanners for leaked secrets can look for
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOOK_EVERY_S = 1.0
MAX_RATE = 1e9


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of the file.

    Attributes:
        sha256: of the whole key as it is sent, in hexadecimal.
        rate_per_s: requests a second in the long run; None for as many as it likes.
        burst: requests at once; None where there is no rate.
        created: ISO date.
    """

    sha256: str
    rate_per_s: float | None = None
    burst: int | None = None
    created: str = ""


def new_key(rate_per_s: float | None = None, burst: int | None = None) -> tuple[str, Key]:
    """A key to hand out, and its entry. The burst is one second's worth where it is not given.

    Raises:
        InvalidInput: a rate that lets nobody in, or a burst without a rate.
    """
    if rate_per_s is None and burst is not None:
        raise InvalidInput("a burst needs a rate: give --rate too")
    if rate_per_s is not None and burst is None:
        burst = max(1, round(rate_per_s)) if 0 < rate_per_s < MAX_RATE else 1
    token = PREFIX + secrets.token_urlsafe(32)
    return token, parsed(asdict(Key(hashlib.sha256(token.encode()).hexdigest(), rate_per_s, burst, date.today().isoformat())))


def read_keys(path: Path) -> dict[str, Key]:
    """The entries of a key file by name.

    Raises:
        SetupError: it cannot be read or is not a key file; the message names what is wrong.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["keys"]
        return {name: parsed(entry) for name, entry in entries.items()}
    except OSError as exc:
        raise SetupError(
            f"the key file {path} cannot be read ({exc.strerror}): make it with `searchbar keys new NAME --file {path}`"
        ) from exc
    except (ValueError, KeyError, TypeError, AttributeError, InvalidInput) as exc:
        raise SetupError(f"{path} is not a key file ({exc!r}): `searchbar keys new` writes one") from exc


def parsed(entry: Mapping[str, Any]) -> Key:
    """An entry, checked. Raises InvalidInput or TypeError when it is none."""
    key = Key(**entry)
    if not re.fullmatch(r"[0-9a-f]{64}", key.sha256):
        raise InvalidInput("sha256 is not 64 hexadecimal digits")
    if (key.rate_per_s is None) != (key.burst is None):
        raise InvalidInput("rate_per_s and burst belong together")
    if key.rate_per_s is not None and key.burst is not None and not (0 < key.rate_per_s < MAX_RATE and key.burst >= 1):
        raise InvalidInput("a rate is more than 0 requests a second, a burst at least 1 request")
    return key


@contextmanager
def changing(path: Path) -> Iterator[dict[str, Key]]:
    """The entries, to change; written back as a whole when the block ends well. Two at once take turns.

    Raises:
        SetupError: see `read_keys`; a file that is not there yet holds nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = read_keys(path) if path.exists() else {}
        yield keys
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as sink:
            json.dump({"keys": {name: asdict(key) for name, key in keys.items()}}, sink, indent=2)
            sink.write("\n")
            sink.flush()
            os.fsync(sink.fileno())
        if path.exists():
            beside.chmod(path.stat().st_mode & 0o777)  # whoever let the server's account read it need not do so again
        beside.replace(path)
    finally:
        os.close(folder)


class KeyRing:
    """The keys that count now. A change of the file is noticed within a second, without a restart.

    Args:
        path: of the key file.
        clock: seconds from any origin, never backwards.

    Raises:
        SetupError: the file cannot be read at the start. Later on, the keys read last go on counting and the log says so.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._seen = self._look()
        self._look_at = clock() + LOOK_EVERY_S
        self._buckets: dict[bytes, tuple[Key, TokenBucket | None]] = {}
        self._take_over(read_keys(path))

    def bucket(self, token: bytes) -> tuple[bool, TokenBucket | None]:
        """Whether `token` is a key, and its bucket, which is None for one without a rate.

        What is compared is the token's digest: how long that takes says nothing about the keys.
        """
        if self._clock() >= self._look_at:
            self._refresh()
        found = self._buckets.get(hashlib.sha256(token).digest())
        return (False, None) if found is None else (True, found[1])

    def _refresh(self) -> None:
        self._look_at = self._clock() + LOOK_EVERY_S
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            keys = read_keys(self._path)
        except SetupError as exc:
            log.error("the keys read before go on counting: %s", exc)
            return
        self._take_over(keys)
        log.info("%d API keys read from %s", len(keys), self._path)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _take_over(self, keys: Mapping[str, Key]) -> None:
        """Buckets of entries that have not changed stay as full as they are."""
        before = self._buckets
        self._buckets = {}
        for key in keys.values():
            digest = bytes.fromhex(key.sha256)
            held = before.get(digest)
            self._buckets[digest] = held if held and held[0] == key else (key, self._new_bucket(key))

    def _new_bucket(self, key: Key) -> TokenBucket | None:
        if key.rate_per_s is None or key.burst is None:
            return None
        return TokenBucket(key.rate_per_s, key.burst, self._clock)
