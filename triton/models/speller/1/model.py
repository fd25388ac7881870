"""Spelling in one process: tokenizer, engines, decoding and detokenizer without the ways between their models.

`configs/one_process.pbtxt` serves this on a CPU and `configs/one_process_cuda.pbtxt` on a GPU; `config.pbtxt`, an ensemble of
the models, does not read it (docs/adr/0028-one-process.md).
"""

import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

VERSION = Path(__file__).parent
REPOSITORY = VERSION.parents[1]
TOKENIZE, GENERATE, DETOKENIZE = (
    REPOSITORY / f"speller_{part}" / VERSION.name for part in ("tokenize", "generate", "detokenize")
)
ENGINES = ("speller_encoder", "speller_decoder")
OPEN = REPOSITORY / "embedder_encoder" / VERSION.name
sys.path[:0] = map(str, (TOKENIZE, GENERATE, DETOKENIZE, OPEN))

# They stand in the directories of the models that are served where this one is not.
from aggressive import generate  # noqa: E402
from bpe import Tokens  # noqa: E402
from engine import session  # noqa: E402
from texts import Texts  # noqa: E402


class TritonPythonModel:
    def initialize(self, args):
        self.tokens = Tokens(TOKENIZE / "tokenizer.json")
        self.texts = Texts(DETOKENIZE / "tokenizer.json")
        self.engines = {model: session(REPOSITORY / model / VERSION.name, args) for model in ENGINES}
        query = np.array([[b"one query"]], np.object_)
        self.spell(query, query)  # the first run is slow

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            query, candidates = (pb_utils.get_input_tensor_by_name(request, name) for name in ("QUERY", "CANDIDATES"))
            found = self.spell(query.as_numpy(), candidates.as_numpy())
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"speller: {error}"))
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(name, array) for name, array in found.items()])

    def spell(self, queries, candidates):
        """UTF-8 queries [batch, 1] and their candidates [batch, n] → the outputs by name."""
        outputs, logprobs, scores, query_logprobs, passes = generate(
            self.tokens(queries)[:, 0], self.tokens(candidates), self._run
        )
        return {
            "TEXT": self.texts(outputs),
            "LOGPROB": logprobs[:, None],
            "QUERY_LOGPROB": query_logprobs[:, None],
            "CANDIDATE_LOGPROBS": np.ascontiguousarray(scores),
            "PASSES": passes[:, None],
        }

    def _run(self, engine, feeds, outputs):
        return self.engines[engine].run(outputs, feeds)
