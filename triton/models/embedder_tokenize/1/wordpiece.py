"""Query texts → WordPiece ids, free of Triton."""

import os

import numpy as np
from tokenizers import Tokenizer

# A few short texts at a time: its threads gain nothing, and keep the processor busy while they look for more (ADR 33).
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BUCKETS = (8, 12, 16, 24, 32, 48, 64)


class Tokens:
    """The embedder's tokenizer, from its file."""

    def __init__(self, path):
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.encode_special_tokens = True  # a typed "[SEP]" is text
        self._tokenizer.enable_truncation(BUCKETS[-1])
        self._tokenizer.no_padding()

    def __call__(self, texts):
        """UTF-8 texts [n] → ids and mask, int64 [n, tokens], padded to the bucket that the longest fits.

        Raises:
            UnicodeDecodeError: a text is no UTF-8.
        """
        encodings = self._tokenizer.encode_batch_fast([text.decode("utf-8") for text in texts])
        longest = max(len(encoding) for encoding in encodings)
        width = next(bucket for bucket in BUCKETS if bucket >= longest)
        ids = np.zeros((len(encodings), width), np.int64)  # [PAD] is 0, as in BERT
        mask = np.zeros((len(encodings), width), np.int64)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding)] = encoding.ids
            mask[row, : len(encoding)] = 1
        return ids, mask
