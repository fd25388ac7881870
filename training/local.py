"""The model repository run in this process: the same graphs, tokenizers and decoding as Triton serves, without the server.

For fitting and evaluation, where thousands of queries are asked and no latency is measured.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime

from app.inference import Array, text_tensor

PAD = 1  # of the speller


def load_module(path: Path) -> ModuleType:
    """A Python file of the model repository, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class LocalBackend:
    """`app.inference.InferenceBackend` over a model repository on disk, whose own tokenizers and decoding it runs."""

    def __init__(self, repository: Path, threads: int = 1) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._repository = repository
        self.aggressive: Any = self._part("speller_generate", "aggressive.py")
        tokenize, detokenize = self._part("speller_tokenize", "bpe.py"), self._part("speller_detokenize", "texts.py")
        self._tokens = tokenize.Tokens(self._tokenizer("speller_tokenize"))
        self._texts = detokenize.Texts(self._tokenizer("speller_detokenize"))
        self._engines = {model: self._session(model) for model in ("speller_encoder", "speller_decoder")}
        self._embedder: tuple[onnxruntime.InferenceSession, Any] | None = None
        self.passes: list[int] = []  # decoder passes of each query asked so far

    def _part(self, model: str, file: str) -> Any:
        return load_module(self._repository / model / "1" / file)

    def _tokenizer(self, model: str) -> Path:
        return self._repository / model / "1" / "tokenizer.json"

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
        found: Array = self._tokens(text_tensor([[*row, *[""] * (count - len(row))] for row in texts]))
        return found

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Texts without special tokens."""
        return [text.decode() for text in self._texts(ids)[:, 0]]

    def verifier(self, sources: Array) -> Any:
        """The decoder pass over encodings of `sources` [batch, tokens], as `aggressive.decode` wants it."""
        return self.aggressive.verifier(sources, lambda model, feeds, outputs: self._engines[model].run(outputs, feeds))

    def _spell(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        sources, candidates = self._tokens(inputs["QUERY"])[:, 0], self._tokens(inputs["CANDIDATES"])
        decoded, logprob, scores, own, passes = self.aggressive.decode(sources, candidates, self.verifier(sources))
        self.passes += passes.tolist()
        return {
            "TEXT": self._texts(decoded),
            "LOGPROB": logprob[:, None],
            "QUERY_LOGPROB": own[:, None],
            "CANDIDATE_LOGPROBS": scores,
        }

    def _embed(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self._embedder is None:
            tokens = self._part("embedder_tokenize", "wordpiece.py").Tokens(self._tokenizer("embedder_tokenize"))
            self._embedder = (self._session("embedder_encoder"), tokens)
        session, tokens = self._embedder
        ids, mask = tokens(inputs["QUERY"][:, 0])
        return {"EMBEDDING": session.run(None, {"input_ids": ids, "attention_mask": mask})[0]}
