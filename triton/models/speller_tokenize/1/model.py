"""Query and candidate texts → token ids for the speller."""

import os

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

PAD = 1
MAX_TOKENS = 64


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "tokenizer.json")
        self.tokenizer = Tokenizer.from_file(path)
        self.tokenizer.encode_special_tokens = True  # a typed "</s>" is text
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.enable_padding(pad_id=PAD, pad_token="<pad>")

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            source = self._encode(pb_utils.get_input_tensor_by_name(request, "QUERY").as_numpy())
            candidates = self._encode(pb_utils.get_input_tensor_by_name(request, "CANDIDATES").as_numpy())
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"speller_tokenize: {error}"))
        tensors = [pb_utils.Tensor("SOURCE_IDS", source[:, 0]), pb_utils.Tensor("CANDIDATE_IDS", candidates)]
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _encode(self, texts):
        """[batch, n] bytes → [batch, n, tokens] int32; an empty text becomes padding alone."""
        batch, count = texts.shape
        encodings = self.tokenizer.encode_batch_fast([text.decode("utf-8") for text in texts.flat])
        width = max((len(e) for e in encodings), default=1)
        ids = np.full((batch * count, width), PAD, np.int32)
        for row, (text, encoding) in enumerate(zip(texts.flat, encodings)):
            if text:
                ids[row, : len(encoding)] = encoding.ids
        return ids.reshape(batch, count, width)
