"""Query and candidate texts → token ids for the speller."""

from pathlib import Path

import triton_python_backend_utils as pb_utils
from bpe import Tokens


class TritonPythonModel:
    def initialize(self, args):
        self.tokens = Tokens(Path(__file__).with_name("tokenizer.json"))

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            source = self.tokens(pb_utils.get_input_tensor_by_name(request, "QUERY").as_numpy())
            candidates = self.tokens(pb_utils.get_input_tensor_by_name(request, "CANDIDATES").as_numpy())
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"speller_tokenize: {error}"))
        tensors = [pb_utils.Tensor("SOURCE_IDS", source[:, 0]), pb_utils.Tensor("CANDIDATE_IDS", candidates)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
