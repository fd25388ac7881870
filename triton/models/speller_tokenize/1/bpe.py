"""Texts → byte-level BPE ids, free of Triton."""

import os

import numpy as np
from tokenizers import Tokenizer

# A few short texts at a time: its threads gain nothing, and keep the processor busy while they look for more (ADR 33).
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

PAD = 1
MAX_TOKENS = 64


class Tokens:
    """The speller's tokenizer, from its file."""

    def __init__(self, path):
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.encode_special_tokens = True  # a typed "</s>" is text
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding(pad_id=PAD, pad_token="<pad>")

    def __call__(self, texts):
        """UTF-8 texts [batch, n] → int32 [batch, n, tokens]; an empty text becomes padding alone.

        Raises:
            UnicodeDecodeError: a text is no UTF-8.
        """
        batch, count = texts.shape
        encodings = self._tokenizer.encode_batch_fast([text.decode("utf-8") for text in texts.flat])
        width = max((len(e) for e in encodings), default=1)
        ids = np.full((batch * count, width), PAD, np.int32)
        for row, (text, encoding) in enumerate(zip(texts.flat, encodings)):
            if text:
                ids[row, : len(encoding)] = encoding.ids
        return ids.reshape(batch, count, width)
