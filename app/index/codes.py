"""Codes of all embeddings of a large index, compared with a query one after the other: which points are worth scoring in full.

Product quantisation (Jégou, Douze and Schmid, PAMI 2011): each pair of dimensions is one of sixteen, half a byte. A query looks
up what the sixteen of each pair are worth and adds up, with the tables held in registers ("fast scan": André, Kermarrec and
Le Scouarnec, VLDB 2015), by FAISS: 3 to 4 ns a point. There is no graph to build, and none to miss what is near (ADR 32).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from app.errors import IndexUnavailable

FILE = "codes.faiss"
ADDED = "codes.added"  # points that came after the codes were written, 64 bits each; again and again where they changed
SPOOL = "codes.spool"
PAIR, BITS = 2, 4  # dimensions of a code, and its bits
TRAINED_ON = 65_536  # embeddings that say what the sixteen are
ENCODED = 65_536  # embeddings encoded at a time
SEED = 7

Vectors = npt.NDArray[np.float32]
Points = npt.NDArray[np.int64]


class Codes:
    """The codes of an index, by point.

    A point may have several, of vectors that it had; whoever scores it takes the present one.
    """

    def __init__(self, index: Any) -> None:
        self._index = index  # faiss.IndexIDMap of an IndexPQFastScan

    @classmethod
    def of(cls, points: Points, vectors: npt.NDArray[np.float16]) -> Codes:
        """The codes of these vectors, [points, dimensions]; what the sixteen are is learnt from a sample of them."""
        import faiss

        some = np.random.default_rng(SEED).permutation(len(vectors))[:TRAINED_ON]
        sample = _even(vectors[np.sort(some)])
        width = sample.shape[1]
        scan = faiss.IndexPQFastScan(width, width // PAIR, BITS, faiss.METRIC_INNER_PRODUCT)
        scan.train(sample)
        codes = cls(faiss.IndexIDMap(scan))
        for start in range(0, len(points), ENCODED):
            codes.add(points[start : start + ENCODED], vectors[start : start + ENCODED])
        return codes

    @classmethod
    def read(cls, directory: Path) -> Codes | None:
        """The codes of an index directory; None where it has none, because all its vectors are compared in full.

        Raises:
            IndexUnavailable: the file is damaged.
        """
        path = directory / FILE
        if not path.exists():
            return None
        import faiss

        faiss.omp_set_num_threads(1)  # the engine's threads search beside it
        try:
            return cls(faiss.read_index(str(path)))
        except RuntimeError as exc:
            raise IndexUnavailable(f"{path} is damaged ({exc}): build the index again") from exc

    def write(self, directory: Path) -> None:
        """Write them to an index directory, in place of others and of what was added to those.

        Raises:
            IndexUnavailable: the directory cannot be written.
        """
        import faiss

        try:
            faiss.write_index(self._index, str(directory / FILE))
        except RuntimeError as exc:
            raise IndexUnavailable(f"{directory / FILE} cannot be written ({exc})") from exc
        (directory / ADDED).unlink(missing_ok=True)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, points: Points, vectors: npt.NDArray[np.floating[Any]]) -> None:
        """Codes of more vectors, [points, dimensions]."""
        if len(points):
            self._index.add_with_ids(_even(vectors), np.asarray(points, np.int64))

    def nearest(self, vectors: Vectors, size: int) -> list[set[int]]:
        """For each vector, [vectors, dimensions], the points of the `size` nearest codes. Other threads run meanwhile."""
        if not len(self):
            return [set() for _ in vectors]
        _, found = self._index.search(_even(vectors), min(size, len(self)))
        return [{point for point in row if point >= 0} for row in found.tolist()]


class Spool:
    """The vectors of an index that is being written, on the disk in half precision, until there are codes of them."""

    def __init__(self, directory: Path, dimensions: int) -> None:
        self._directory, self._dimensions = directory, dimensions
        self._points: list[Points] = []
        self._file: BinaryIO | None = None

    def add(self, points: Sequence[int], vectors: Vectors) -> None:
        """More of them, float32 [points, dimensions].

        Raises:
            IndexUnavailable: the disk is full.
        """
        self._points.append(np.array(points, np.int64))
        try:
            if self._file is None:
                self._file = (self._directory / SPOOL).open("w+b")
            self._file.write(vectors.astype("<f2").tobytes())
        except OSError as exc:
            raise IndexUnavailable(f"{self._directory / SPOOL} cannot be written ({exc.strerror})") from exc

    def codes(self) -> Codes:
        """The codes of all that was added."""
        assert self._file is not None
        self._file.flush()
        points = np.concatenate(self._points)
        return Codes.of(points, np.memmap(self._file, "<f2", "r", shape=(len(points), self._dimensions)))

    def close(self) -> None:
        """Drop the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
            (self._directory / SPOOL).unlink(missing_ok=True)


def note_added(directory: Path, points: Sequence[int]) -> None:
    """Have it on the disk that these points came after the codes of `directory`, if there are any.

    Raises:
        IndexUnavailable: it cannot be written.
    """
    if not points or not (directory / FILE).exists():
        return
    try:
        with (directory / ADDED).open("ab") as file:
            file.write(np.array(points, "<i8").tobytes())
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise IndexUnavailable(f"{directory / ADDED} cannot be written ({exc.strerror})") from exc


def added(directory: Path) -> list[int]:
    """The points that came after the codes of `directory`, each once. What a crash tore off is still in the journal."""
    with contextlib.suppress(FileNotFoundError):
        held = (directory / ADDED).read_bytes()
        whole = np.frombuffer(held[: len(held) // 8 * 8], "<i8")
        return list(dict.fromkeys(whole.tolist()))
    return []


def drop(directory: Path) -> None:
    """Remove the codes of an index that has become small."""
    for file in (FILE, ADDED):
        (directory / file).unlink(missing_ok=True)


def _even(vectors: npt.NDArray[np.floating[Any]]) -> Vectors:
    """float32 with an even number of dimensions: the last pair of an odd number is filled up with zero."""
    wanted = np.ascontiguousarray(vectors, np.float32)
    return np.pad(wanted, ((0, 0), (0, 1))) if wanted.shape[1] % PAIR else wanted
