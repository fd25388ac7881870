"""Texts to embeddings with the graph and the tokenizer that Triton serves, for the peers that take a Python function."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

MODELS = Path(__file__).resolve().parents[2] / "triton" / "models"
MAX_TOKENS = 64
THREADS = int(os.environ.get("PEER_THREADS", "1"))


class Embedder:
    """Usable from several threads at once.

    Args:
        threads: of one pass of the graph.
    """

    def __init__(self, threads: int = THREADS) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as in Triton: the cores are shared
        graph = str(MODELS / "embedder_encoder" / "1" / "model.onnx")
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(MODELS / "embedder_tokenize" / "1" / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()  # to the longest of a batch; [PAD] is 0, as in BERT

    def __call__(self, texts: list[str]) -> np.ndarray:
        """L2-normalised float32 [texts, 256]."""
        encodings = self._tokenizer.encode_batch_fast(texts)
        ids = np.array([encoding.ids for encoding in encodings], np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], np.int64)
        return self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
