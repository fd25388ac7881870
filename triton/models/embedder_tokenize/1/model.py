"""Query texts → token ids for the embedder, padded to a bucketed length."""

import os

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

BUCKETS = (8, 12, 16, 24, 32, 48, 64)


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "tokenizer.json")
        self.tokenizer = Tokenizer.from_file(path)
        self.tokenizer.encode_special_tokens = True  # a typed "[SEP]" is text
        self.tokenizer.enable_truncation(BUCKETS[-1])
        self.tokenizer.no_padding()

    def execute(self, requests):
        """Requests of one dynamic batch share a bucket, so that the encoder can run them as one batch again."""
        try:
            texts = [pb_utils.get_input_tensor_by_name(request, "QUERY").as_numpy()[:, 0] for request in requests]
            encodings = self.tokenizer.encode_batch_fast([text.decode("utf-8") for array in texts for text in array])
        except Exception as error:
            failure = pb_utils.TritonError(f"embedder_tokenize: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]
        longest = max(len(encoding) for encoding in encodings)
        width = next(bucket for bucket in BUCKETS if bucket >= longest)
        ids = np.zeros((len(encodings), width), np.int64)  # [PAD] is 0, as in BERT
        mask = np.zeros((len(encodings), width), np.int64)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding)] = encoding.ids
            mask[row, : len(encoding)] = 1
        responses, start = [], 0
        for array in texts:
            rows = slice(start, start + len(array))
            tensors = [pb_utils.Tensor("input_ids", ids[rows]), pb_utils.Tensor("attention_mask", mask[rows])]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start += len(array)
        return responses
