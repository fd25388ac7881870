"""Token ids → text, special tokens left out."""

import os

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "tokenizer.json")
        self.tokenizer = Tokenizer.from_file(path)

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            ids = pb_utils.get_input_tensor_by_name(request, "OUTPUT_IDS").as_numpy()
            texts = self.tokenizer.decode_batch(ids.tolist(), skip_special_tokens=True)
            array = np.array([[text.strip().encode()] for text in texts], dtype=np.object_)
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"speller_detokenize: {error}"))
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("TEXT", array)])
