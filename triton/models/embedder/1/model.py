"""Query texts → embeddings in one process: the tokenizer's and the encoder's parts without the ways between them.

`configs/one_process.pbtxt` serves this on a CPU and `configs/one_process_cuda.pbtxt` on a GPU; `config.pbtxt`, an ensemble of
the two models, does not read it (docs/adr/0028-one-process.md).
"""

import sys
from pathlib import Path

import triton_python_backend_utils as pb_utils

VERSION = Path(__file__).parent
TOKENIZE, ENCODER = (VERSION.parents[1] / model / VERSION.name for model in ("embedder_tokenize", "embedder_encoder"))
sys.path[:0] = map(str, (TOKENIZE, ENCODER))

# They stand in the directories of the models that are served where this one is not.
from engine import session  # noqa: E402
from wordpiece import Tokens  # noqa: E402


class TritonPythonModel:
    def initialize(self, args):
        self.tokens = Tokens(TOKENIZE / "tokenizer.json")
        self.session = session(ENCODER, args)
        self.embed([b"one query"])  # the first run is slow

    def embed(self, texts):
        """UTF-8 texts [n] → L2-normalised float32 [n, dimensions]."""
        ids, mask = self.tokens(texts)
        (vectors,) = self.session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
        return vectors

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            vectors = self.embed(pb_utils.get_input_tensor_by_name(request, "QUERY").as_numpy()[:, 0])
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"embedder: {error}"))
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("EMBEDDING", vectors)])
