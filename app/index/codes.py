"""Codes of all embeddings of a large index, compared with a query one after the other: which points are worth scoring in full.

Product quantisation (Jégou, Douze and Schmid, PAMI 2011): after a rotation that spreads what differs over all dimensions, three
of them at a time are one of sixteen, half a byte. A query looks up what the sixteen are worth and adds up, with the tables held
in registers ("fast scan": André, Kermarrec and Le Scouarnec, VLDB 2015), in 2 ns a point; the best are compared again by one
byte a dimension. All of it is FAISS. There is no graph to build, and none to miss what is near (ADR 32).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from app.errors import IndexUnavailable
from app.index.manifest import sync

FOLDER = "codes"  # in an index directory: a file a part, and
ADDED = "added"  # points that came after these were written, 64 bits each; again and again where they changed
SPOOL = "codes.spool"
# Points that one thread looks through, in 1.4 ms: to wake another for a part of them can take longer (ADR 32).
PART = 1_000_000
TOGETHER, BITS = 3, 4  # dimensions of a code, and its bits
BY_BYTES, MORE = 2, 800  # points compared by a byte a dimension, for each that is wanted, and so many more
TRAINED_ON = 65_536  # embeddings that say what the sixteen are
AT_ONCE = 65_536  # embeddings in single precision in memory
SEED = 7
NOTHING = -1  # FAISS's, where it found fewer

Vectors = npt.NDArray[np.float32]
Points = npt.NDArray[np.int64]


class Codes:
    """The codes of an index, by point.

    A point may have several, of vectors that it had; whoever scores it takes the present one.

    Args:
        parts: FAISS indexes of up to `PART` points, which are searched at the same time.
    """

    def __init__(self, parts: list[Any]) -> None:
        self._parts = parts
        self._pool = ThreadPoolExecutor(max(len(os.sched_getaffinity(0)) - 1, 1), "codes")

    @classmethod
    def of(cls, points: Points, vectors: npt.NDArray[np.float16]) -> Codes:
        """The codes of these vectors, [points, dimensions], at least one; what the sixteen are is learnt from a sample."""
        import faiss

        some = np.random.default_rng(SEED).permutation(len(vectors))[:TRAINED_ON]
        trained = _empty(vectors.shape[1])
        trained.train(_single(vectors[np.sort(some)]))
        starts = range(0, len(points), PART)
        parts = [faiss.IndexIDMap(faiss.clone_index(trained)) for _ in starts]
        for part, first in zip(parts, starts, strict=True):
            for start in range(first, min(first + PART, len(points)), AT_ONCE):
                end = min(start + AT_ONCE, first + PART)
                part.add_with_ids(_single(vectors[start:end]), points[start:end])
        return cls(parts)

    @classmethod
    def read(cls, directory: Path) -> Codes | None:
        """The codes of an index directory; None where it has none, because all its vectors are compared in full.

        Raises:
            IndexUnavailable: a file is damaged.
        """
        files = sorted((directory / FOLDER).glob("*.faiss"))
        if not files:
            return None
        import faiss

        faiss.omp_set_num_threads(1)  # a part has one thread
        parts = []
        for file in files:
            try:
                parts.append(faiss.read_index(str(file)))
            except RuntimeError as exc:
                raise IndexUnavailable(f"{file} is damaged ({exc}): build the index again") from exc
        return cls(parts)

    def write(self, directory: Path) -> None:
        """Write them to an index directory, in place of others and of what was added to those.

        Raises:
            IndexUnavailable: the directory cannot be written.
        """
        import faiss

        drop(directory)
        folder = directory / FOLDER
        try:
            folder.mkdir()
            for number, part in enumerate(self._parts):
                file = folder / f"{number:04}.faiss"
                faiss.write_index(part, str(file))
                sync(file)
            sync(folder)
        except (OSError, RuntimeError) as exc:
            raise IndexUnavailable(f"{folder} cannot be written ({exc})") from exc

    def __len__(self) -> int:
        return sum(int(part.ntotal) for part in self._parts)

    def add(self, points: Points, vectors: npt.NDArray[np.floating[Any]]) -> None:
        """Codes of more vectors, [points, dimensions]: to the last part, which grows."""
        if len(points):
            self._parts[-1].add_with_ids(_single(vectors), np.asarray(points, np.int64))

    def nearest(self, vectors: Vectors, size: int) -> list[set[int]]:
        """For each vector, [vectors, dimensions], the points of the `size` nearest codes."""
        found = self._searched(_single(vectors), size)
        scores, points = (np.concatenate(one, axis=1) for one in zip(*found, strict=True))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :size]
        return [set(row) - {NOTHING} for row in np.take_along_axis(points, best, axis=1).tolist()]

    def _searched(self, asked: Vectors, size: int) -> list[tuple[Vectors, Points]]:
        """Scores and points of the `size` nearest codes of each part; this thread looks through the first."""
        import faiss

        def search(part: Any) -> tuple[Vectors, Points]:
            wanted = min(size, int(part.ntotal))
            by_bytes = faiss.IndexRefineSearchParameters()
            by_bytes.k_factor = (BY_BYTES * wanted + MORE) / wanted
            found: tuple[Vectors, Points] = part.search(asked, wanted, params=by_bytes)
            return found

        others = [self._pool.submit(search, part) for part in self._parts[1:]]
        return [search(self._parts[0]), *(other.result() for other in others)]

    def close(self) -> None:
        """End the threads. Idempotent."""
        self._pool.shutdown()


def _empty(dimensions: int) -> Any:
    """An untrained FAISS index."""
    import faiss

    product, rotated = faiss.METRIC_INNER_PRODUCT, -(-dimensions // TOGETHER) * TOGETHER
    rotation = faiss.RandomRotationMatrix(dimensions, rotated)
    rotation.init(SEED)
    scan = faiss.IndexPQFastScan(rotated, rotated // TOGETHER, BITS, product)
    whole = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_8bit, product)
    return faiss.IndexRefine(faiss.IndexPreTransform(rotation, scan), whole)


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
    path = directory / FOLDER / ADDED
    if not points or not path.parent.exists():
        return
    try:
        with path.open("ab") as file:
            file.truncate(file.tell() // 8 * 8)  # a number that a crash tore off would shift all that follow
            file.write(np.array(points, "<i8").tobytes())
            file.flush()
            os.fsync(file.fileno())
        sync(path.parent)
    except OSError as exc:
        raise IndexUnavailable(f"{path} cannot be written ({exc.strerror})") from exc


def added(directory: Path) -> list[int]:
    """The points that came after the codes of `directory`, each once. What a crash tore off is still in the journal."""
    with suppress(FileNotFoundError):
        held = (directory / FOLDER / ADDED).read_bytes()
        whole = np.frombuffer(held[: len(held) // 8 * 8], "<i8")
        return list(dict.fromkeys(whole.tolist()))
    return []


def drop(directory: Path) -> None:
    """Remove the codes of an index directory, if there are any."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def _single(vectors: npt.NDArray[np.floating[Any]]) -> Vectors:
    """As FAISS reads them."""
    return np.ascontiguousarray(vectors, np.float32)
