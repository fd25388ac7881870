"""Bulk embedding on Ray Data: one task reads the catalogue, actors on any number of nodes embed, this process writes.

    read_rows (1 task, here)  ──blocks──►  EmbedRows × workers (model and tokenizer loaded once)  ──batches──►  the writer

Blocks are small and the stages run at once, so memory is bounded by Ray's object store, not by the catalogue. Rows come out in
any order. Without RAY_ADDRESS a Ray of this command's own is started and stopped; with it, the cluster there is used, whose
nodes need this package and the model repository at the same path.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import ray.data

from app.domain import Item
from app.errors import ModelFailed, SearchbarError, SetupError
from app.index.encoder import PassageEncoder
from app.index.passage import passage_text
from app.index.readers import Rejected, read_items

BATCH = 256  # rows embedded at a time
READER_CPUS = 0.5  # other than a worker's: Ray fuses stages of equal needs, and would read and embed in one actor
BLOCK_BYTES = 256 * 1024  # of a block between the stages: several hundred rows
STORE_BYTES = 256 * 1024 * 1024  # of a local object store: many times what is in flight

Columns = dict[str, Any]  # one array a column, all of the same length


@dataclass(frozen=True, slots=True)
class EmbeddedRows:
    """Attributes:
    items: usable rows.
    vectors: their L2-normalised embeddings, float32 [items, dimensions].
    rejected: rows that were not usable.
    workers: processes that embedded them.
    """

    items: list[Item]
    vectors: npt.NDArray[np.float32]
    rejected: list[Rejected]
    workers: frozenset[int]


def read_rows(sources: Columns) -> Iterator[Columns]:
    """The rows of catalogue files, pickled `Item`s and `Rejected`s, `BATCH` at a time.

    A file that cannot be read ends as a row too: Ray would retry, and bury the message.
    """
    for source in sources["source"]:
        rows = read_items(Path(str(source)))
        try:
            while batch := list(islice(rows, BATCH)):
                yield {"row": np.array([pickle.dumps(row) for row in batch], dtype=object)}
        except SearchbarError as exc:
            yield {"row": np.array([pickle.dumps(exc)], dtype=object)}


class EmbedRows:
    """One worker's model; called with batches of rows, gives them back with their embeddings (zeros for rejected rows)."""

    def __init__(self, repository: Path) -> None:
        self._encoder = PassageEncoder(repository, threads=1)

    def __call__(self, batch: Columns) -> Columns:
        rows = [pickle.loads(row) for row in batch["row"]]
        usable = np.array([isinstance(row, Item) for row in rows])
        passages = [passage_text(row) for row in rows if isinstance(row, Item)]
        vectors = np.zeros((len(rows), self._encoder.dimensions), np.float32)
        vectors[usable] = asyncio.run(self._encoder.embed(passages))
        return {"row": batch["row"], "vector": vectors, "worker": np.full(len(rows), os.getpid())}


def embedded_rows(source: Path, repository: Path, workers: int) -> Generator[EmbeddedRows, None, None]:
    """Every row of `source`, embedded by `workers` processes with the model of `repository`; closing it stops Ray.

    Raises:
        InvalidInput: `source` cannot be read.
        SetupError: Ray cannot be started or reached.
        ModelFailed: a worker failed, and Ray gave up on it.
    """
    with running_ray(workers):
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}  # where the file is
        embedded = (
            ray.data.from_items([{"source": str(source.absolute())}])
            .map_batches(read_rows, batch_size=1, batch_format="numpy", label_selector=here, num_cpus=READER_CPUS)
            .map_batches(
                EmbedRows,
                fn_constructor_args=(repository.absolute(),),
                batch_size=BATCH,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=1,
            )
        )
        try:
            for batch in embedded.iter_batches(batch_size=BATCH, batch_format="numpy", prefetch_batches=2):
                yield _unpack(batch)
        except ray.exceptions.RayError as exc:
            raise ModelFailed(f"bulk embedding failed: {exc}") from exc


def _unpack(batch: Columns) -> EmbeddedRows:
    rows: list[Item | Rejected | SearchbarError] = [pickle.loads(row) for row in batch["row"]]
    for row in rows:
        if isinstance(row, SearchbarError):
            raise row
    usable = np.array([isinstance(row, Item) for row in rows])
    return EmbeddedRows(
        [row for row in rows if isinstance(row, Item)],
        np.asarray(batch["vector"], np.float32)[usable],
        [row for row in rows if isinstance(row, Rejected)],
        frozenset(int(worker) for worker in batch["worker"]),
    )


@contextmanager
def running_ray(workers: int) -> Iterator[None]:
    """Ray with room for the reader and `workers` actors, on loopback and without dashboard, or the cluster of RAY_ADDRESS."""
    own = "RAY_ADDRESS" not in os.environ
    folder = tempfile.mkdtemp(prefix="searchbar-ray-") if own else None  # a short path: Ray's sockets lie below it
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if own:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would report to its makers
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it calls every actor pool an error
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # otherwise it leaves one in the home folder
        options |= {"num_cpus": workers + 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        options |= {"_temp_dir": folder, "_node_ip_address": "127.0.0.1"}
    try:
        try:
            ray.init(**options)
        except (ConnectionError, OSError, RuntimeError, ValueError) as exc:
            raise SetupError(f"Ray cannot be started or reached: {exc}") from exc
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = BLOCK_BYTES
        context.enable_progress_bars = False
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The minimum number of concurrent actors", category=UserWarning)
            yield  # a catalogue of one block keeps one actor busy
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
