"""Token ids → texts, free of Triton."""

import os

import numpy as np
from tokenizers import Tokenizer

# A few short texts at a time: its threads gain nothing, and keep the processor busy while they look for more (ADR 33).
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Texts:
    """The speller's tokenizer the other way round, from its file."""

    def __init__(self, path):
        self._tokenizer = Tokenizer.from_file(str(path))

    def __call__(self, ids):
        """Lists of token ids [batch] → UTF-8 texts [batch, 1], special tokens left out."""
        texts = self._tokenizer.decode_batch(ids, skip_special_tokens=True)
        return np.array([[text.strip().encode()] for text in texts], dtype=np.object_)
