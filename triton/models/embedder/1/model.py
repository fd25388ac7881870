"""Query texts → embeddings in one process, on a CPU: the tokenizer's and the encoder's parts without the ways between them.

`configs/one_process.pbtxt` serves this; `config.pbtxt`, an ensemble of the two models, does not read it
(docs/adr/0028-one-process.md).
"""

import sys
from pathlib import Path

import onnxruntime
import triton_python_backend_utils as pb_utils

VERSION = Path(__file__).parent
TOKENIZE, ENCODER = (VERSION.parents[1] / model / VERSION.name for model in ("embedder_tokenize", "embedder_encoder"))
sys.path.insert(0, str(TOKENIZE))

from wordpiece import Tokens  # noqa: E402  # stands in the directory of the model that is served where this one is not


class TritonPythonModel:
    def initialize(self, args):
        self.tokens = Tokens(TOKENIZE / "tokenizer.json")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(ENCODER / "model.onnx"), options, providers=["CPUExecutionProvider"])
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
