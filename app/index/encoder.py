"""Passages to embeddings in this process: the graph and the tokenizer that Triton serves, without the server.

For bulk work: a listener's query goes through Triton, which batches the queries of all listeners; a catalogue is one long
batch already.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.errors import ModelFailed, SetupError

BATCH = 64  # passages a pass of the graph: 8 to 64 cost the same within 3 % on one core, 128 ten per cent more
MAX_TOKENS = 64  # as triton/models/embedder_tokenize


class PassageEncoder:
    """The embedder of a model repository, on as many threads as it is given; usable from any number of tasks.

    Raises:
        SetupError: the repository has no embedder, or its files cannot be read.
    """

    def __init__(self, repository: Path, threads: int | None = None) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self._session, self._tokenizer = _load(repository)
        # A pass has one thread of its own: two in one pass did no more work a second and burnt twice the processor time.
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="encode")
        self.dimensions: int = self._encode(["probe"]).shape[1]

    async def embed(self, passages: list[str]) -> npt.NDArray[np.float32]:
        """L2-normalised embeddings of folded passages, float32 [passages, dimensions]; calls in flight share the threads.

        Raises:
            ModelFailed: the graph cannot run.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._encode, passages)

    def close(self) -> None:
        """Drop what waits and end the threads. Idempotent."""
        self._pool.shutdown(cancel_futures=True)

    def _encode(self, passages: list[str]) -> npt.NDArray[np.float32]:
        encodings = self._tokenizer.encode_batch_fast(passages)
        lengths = np.array([len(encoding) for encoding in encodings], np.int64)
        order = np.argsort(lengths, kind="stable")  # like lengths share a pass: little of it is padding
        found: npt.NDArray[np.float32] | None = None
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            vectors = self._run([encodings[row].ids for row in rows], int(lengths[rows[-1]]))
            if found is None:
                found = np.empty((len(passages), vectors.shape[1]), np.float32)
            found[rows] = vectors
        return np.empty((0, self.dimensions), np.float32) if found is None else found

    def _run(self, tokens: list[list[int]], width: int) -> npt.NDArray[np.float32]:
        ids, mask = np.zeros((2, len(tokens), width), np.int64)  # [PAD] is 0, as in BERT
        for row, known in enumerate(tokens):
            ids[row, : len(known)] = known
            mask[row, : len(known)] = 1
        try:
            return np.asarray(self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0], np.float32)
        except Exception as exc:  # onnxruntime's errors have no base class of their own
            raise ModelFailed(f"the embedder's graph failed on {len(tokens)} passages: {exc}") from exc


def _load(repository: Path) -> tuple[Any, Any]:
    import onnxruntime
    from tokenizers import Tokenizer

    graph, vocabulary = (
        repository / model / "1" / file
        for model, file in (("embedder_encoder", "model.onnx"), ("embedder_tokenize", "tokenizer.json"))
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        tokenizer = Tokenizer.from_file(str(vocabulary))
    except Exception as exc:  # both libraries raise bare exceptions of many sorts
        raise SetupError(f"the embedder in {repository} cannot be loaded ({exc}): check SEARCHBAR_MODEL_REPOSITORY") from exc
    tokenizer.encode_special_tokens = True  # "[SEP]" in a title is text
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return session, tokenizer
