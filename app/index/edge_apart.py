"""`EdgeWriter` in a process of its own, so that a large build keeps every core busy.

The engine keeps Python's interpreter lock for the whole of a call, for seconds where it brings a piece into its final form:
in one process the threads that embed would stand still meanwhile.
"""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain import Item
from app.errors import IndexUnavailable, SearchbarError
from app.index.edge_layout import EdgeLayout
from app.index.edge_writer import EdgeWriter
from app.index.manifest import Manifest
from app.index.wire import pack_item, python, unpack_items

AHEAD = 48  # calls that wait for the process: chunks of 1,000 items, some 70 MB


class EdgeWriterApart:
    """As `EdgeWriter` of a new index; `add` returns before the items are written, and waits while `AHEAD` calls do.

    Attributes:
        layout: of the index.

    Raises:
        IndexUnavailable: the engine could not write, in this call or in an earlier one, or the process has ended.
    """

    def __init__(self, directory: Path, dimensions: int, layout: EdgeLayout | None = None) -> None:
        self.layout = layout or EdgeLayout()
        self._calls: queue.Queue[tuple[str, tuple[Any, ...], Future[Any]] | None] = queue.Queue(AHEAD)
        self._failed: BaseException | None = None
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                python("app.index.edge_apart", str(theirs.fileno())), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self._sender = threading.Thread(target=self._send, name="to the index's writer", daemon=True)
        self._sender.start()
        try:
            self._call("begin", directory, dimensions, self.layout).result()
        except BaseException:
            self.close()
            raise

    @property
    def items(self) -> int:
        """See `EdgeWriter.items`."""
        found: int = self._call("items").result()
        return found

    def add(self, items: Sequence[Item], vectors: npt.NDArray[np.float32]) -> None:
        """See `EdgeWriter.add`."""
        self._call("add", [pack_item(item) for item in items], vectors)

    def finish(self, manifest: Manifest) -> None:
        """See `EdgeWriter.finish`."""
        self._call("finish", manifest).result()

    def close(self) -> None:
        """End the process. What is not finished by now is not wanted. Idempotent."""
        if not self._pipe.closed:
            self._process.kill()
            self._process.wait()
            self._calls.put(None)
            self._sender.join()
            self._pipe.close()

    def _call(self, method: str, *arguments: object) -> Future[Any]:
        if self._failed is not None:
            raise self._failed
        answer: Future[Any] = Future()
        self._calls.put((method, arguments, answer))
        return answer

    def _send(self) -> None:
        """Make one call after the other; all that follow a failure fail alike."""
        while (call := self._calls.get()) is not None:
            method, arguments, answer = call
            try:
                if self._failed is None:
                    self._pipe.send((method, arguments))
                    well, value = self._pipe.recv()
                    if well:
                        answer.set_result(value)
                        continue
                    self._failed = value
            except (EOFError, OSError):
                self._failed = IndexUnavailable("the process that writes the index has ended")
            answer.set_exception(self._failed)


class Writing:
    """What the process does when it is called."""

    def __init__(self) -> None:
        self._writer: EdgeWriter | None = None

    def begin(self, directory: Path, dimensions: int, layout: EdgeLayout) -> None:
        self._writer = EdgeWriter(directory, dimensions, layout)

    def add(self, items: Sequence[tuple[Any, ...]], vectors: npt.NDArray[np.float32]) -> None:
        self.writer.add(unpack_items(items), vectors)

    def items(self) -> int:
        return self.writer.items

    def finish(self, manifest: Manifest) -> None:
        self.writer.finish(manifest)
        self.writer.close()

    @property
    def writer(self) -> EdgeWriter:
        assert self._writer is not None
        return self._writer


def main(descriptor: str) -> None:
    """Answer calls until the other end is gone. A terminal's Ctrl-C is for the command, which ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writing, pipe = Writing(), Connection(int(descriptor))
    with suppress(EOFError, ConnectionError):
        while True:
            method, arguments = pipe.recv()
            try:
                answer: tuple[bool, object] = True, getattr(writing, method)(*arguments)
            except SearchbarError as exc:
                answer = False, exc
            except Exception as exc:
                answer = False, IndexUnavailable(f"the process that writes the index failed: {exc!r}")
            pipe.send(answer)
