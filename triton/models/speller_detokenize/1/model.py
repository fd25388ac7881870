"""Token ids → text, special tokens left out."""

from pathlib import Path

import triton_python_backend_utils as pb_utils
from texts import Texts


class TritonPythonModel:
    def initialize(self, args):
        self.texts = Texts(Path(__file__).with_name("tokenizer.json"))

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            texts = self.texts(pb_utils.get_input_tensor_by_name(request, "OUTPUT_IDS").as_numpy().tolist())
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"speller_detokenize: {error}"))
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("TEXT", texts)])
