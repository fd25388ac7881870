"""The speller's tokenizer: byte-level BPE over folded catalogue names, so that every string has an encoding."""

from __future__ import annotations

import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from training.corpus import Corpus, query_for

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]  # in the order of their ids, as in BART


def train_tokenizer(corpus: Corpus, vocab_size: int, samples: int = 400_000, seed: int = 0) -> Tokenizer:
    """A BPE tokenizer from `samples` drawn queries; ``text`` → ``text </s>``.

    It has `vocab_size` tokens, or fewer where the names hold fewer pieces that occur twice.
    """
    rng = random.Random(seed)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((query_for(corpus.draw(rng), rng) for _ in range(samples)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return tokenizer
