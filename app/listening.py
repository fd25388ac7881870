"""Where the server listens: a TCP port, and a Unix-domain socket for a proxy on the same machine."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import SetupError

log = logging.getLogger("searchbar.http")

MODE = 0o660  # of a socket file: its owner and its group may connect
BACKLOG = 2048  # connections that may wait to be accepted, as uvicorn's
SO_ATTACH_FILTER, BPF_RETURN = 26, 0x06  # Linux; linux/filter.h
OTHER_DESCRIPTORS = 256  # of the index, of Triton's pipes and channels


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to a TCP port, taken before anything slow starts.

    Raises:
        SetupError: the port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        raise SetupError(f"cannot serve on {host}:{port} ({exc.strerror}): stop what uses it or give another --port") from exc
    return sock


@contextmanager
def listen_at(path: Path) -> Iterator[socket.socket]:
    """A Unix-domain socket that listens at `path`, for the file's owner and group; the file is gone at the end.

    It listens at once, so that no other server takes it for abandoned: who connects before anybody accepts waits, as with
    systemd's sockets. A file that a killed server left is replaced.

    Raises:
        SetupError: somebody serves there, something else has that name, or the folder is none that may be written.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            remove_abandoned(path)
            sock.bind(str(path))
            path.chmod(MODE)
            sock.listen(BACKLOG)
        except OSError as exc:
            raise SetupError(f"cannot serve on {path} ({exc.strerror or exc}): give another SEARCHBAR_SOCKET") from exc
        ours = path.stat()
        try:
            yield sock
        finally:
            with suppress(OSError):  # gone already
                if os.path.samestat(path.stat(), ours):  # not another server's, which has come since
                    path.unlink()


def remove_abandoned(path: Path) -> None:
    """Remove the socket file that a server left behind.

    Raises:
        OSError: a server has it yet, or it is no socket.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError("it is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError("another server has it")


def drop_newcomers(listening: socket.socket) -> None:
    """Let nobody connect from now on, so that a listening socket's backlog can be emptied for good.

    Linux drops the packets of who tries a TCP port (socket(7), `SO_ATTACH_FILTER`): they are sent again after a second, and
    find another server on the port or are refused. Elsewhere who connects in the last microseconds is reset. A Unix-domain
    socket refuses at once.
    """
    if listening.family == socket.AF_UNIX:
        return listening.shutdown(socket.SHUT_RD)
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN, 0, 0, 0))  # accept no byte of a packet
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def allow_descriptors(connections: int) -> None:
    """Raise this process's soft limit on open files to what `connections` need; warn where the hard one is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < needed:
        log.warning("%d connections need %d open files, %d are allowed: see `ulimit -Hn`", connections, needed, hard)
        needed = hard
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
