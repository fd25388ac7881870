"""Query texts → token ids for the embedder, padded to a bucketed length."""

from pathlib import Path

import triton_python_backend_utils as pb_utils
from wordpiece import Tokens


class TritonPythonModel:
    def initialize(self, args):
        self.tokens = Tokens(Path(__file__).with_name("tokenizer.json"))

    def execute(self, requests):
        """Requests of one dynamic batch share a bucket, so that the encoder can run them as one batch again."""
        try:
            texts = [pb_utils.get_input_tensor_by_name(request, "QUERY").as_numpy()[:, 0] for request in requests]
            ids, mask = self.tokens([text for array in texts for text in array])
        except Exception as error:
            failure = pb_utils.TritonError(f"embedder_tokenize: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]
        responses, start = [], 0
        for array in texts:
            rows = slice(start, start + len(array))
            tensors = [pb_utils.Tensor("input_ids", ids[rows]), pb_utils.Tensor("attention_mask", mask[rows])]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start += len(array)
        return responses
