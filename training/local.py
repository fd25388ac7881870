"""The model repository run in this process: the same graphs, tokenizers and decoding as Triton serves, without the server.

For fitting and evaluation, where thousands of queries are asked and no latency is measured.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from app.inference import Array

PAD = 1


def load_module(path: Path) -> ModuleType:
    """A Python file of the model repository, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class LocalBackend:
    """`app.inference.InferenceBackend` over a model repository on disk."""

    def __init__(self, repository: Path, threads: int = 1) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._repository = repository
        self.aggressive: Any = load_module(repository / "speller_generate" / "1" / "aggressive.py")
        self._encoder = self._session("speller_encoder")
        self._decoder = self._session("speller_decoder")
        self._tokenizer = Tokenizer.from_file(str(repository / "speller_tokenize" / "1" / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.enable_truncation(64)
        self._embedder: tuple[onnxruntime.InferenceSession, Tokenizer] | None = None
        self.passes: list[int] = []  # decoder passes of each query asked so far

    def _session(self, model: str) -> onnxruntime.InferenceSession:
        path = self._repository / model / "1" / "model.onnx"
        return onnxruntime.InferenceSession(str(path), self._options, providers=["CPUExecutionProvider"])

    async def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, Array]:
        return self._spell(inputs) if model == "speller" else self._embed(inputs)

    async def ready(self, model: str) -> bool:
        return True

    async def close(self) -> None:
        return None

    def encode(self, texts: Sequence[Sequence[str]]) -> Array:
        """[batch, n] texts → [batch, n, tokens] int32, padded; an empty text or one that a row lacks is padding alone."""
        count = max(map(len, texts))
        found = self._tokenizer.encode_batch_fast([text for row in texts for text in row if text])
        ids = np.full((len(texts), count, max(map(len, found), default=1)), PAD, np.int32)
        encodings = iter(found)
        for r, row in enumerate(texts):
            for c, text in enumerate(row):
                if text:
                    tokens = next(encodings).ids
                    ids[r, c, : len(tokens)] = tokens
        return ids

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Texts without special tokens."""
        return [text.strip() for text in self._tokenizer.decode_batch(ids)]

    def verifier(self, sources: Array) -> Any:
        """The decoder pass over encodings of `sources` [batch, tokens], as `aggressive.decode` wants it."""
        ids = sources.astype(np.int64)
        mask = (ids != PAD).astype(np.int64)
        (hidden,) = self._encoder.run(None, {"input_ids": ids, "attention_mask": mask})

        def verify(trees: Mapping[str, Array]) -> Any:
            return self._decoder.run(None, {"hidden": hidden, "attention_mask": mask, **trees})

        return verify

    def _spell(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        queries, proposals = ([[t.decode() for t in row] for row in inputs[name]] for name in ("QUERY", "CANDIDATES"))
        sources, candidates = self.encode(queries)[:, 0], self.encode(proposals)
        decoded, logprob, scores, own, passes = self.aggressive.decode(sources, candidates, self.verifier(sources))
        self.passes += passes.tolist()
        return {
            "TEXT": np.array([[text.encode()] for text in self.decode(decoded)], np.object_),
            "LOGPROB": logprob[:, None],
            "QUERY_LOGPROB": own[:, None],
            "CANDIDATE_LOGPROBS": scores,
        }

    def _embed(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self._embedder is None:
            tokenizer = Tokenizer.from_file(str(self._repository / "embedder_tokenize" / "1" / "tokenizer.json"))
            tokenizer.encode_special_tokens = True
            tokenizer.enable_truncation(64)
            tokenizer.enable_padding()
            self._embedder = (self._session("embedder_encoder"), tokenizer)
        session, tokenizer = self._embedder
        found = tokenizer.encode_batch([t.decode() for t in inputs["QUERY"][:, 0]])
        ids = np.array([e.ids for e in found], np.int64)
        mask = np.array([e.attention_mask for e in found], np.int64)
        return {"EMBEDDING": session.run(None, {"input_ids": ids, "attention_mask": mask})[0]}
