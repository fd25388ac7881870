"""The same weights decoded by transformers, by CTranslate2 and by the graphs that ship: queries a second.

Each decoder lives in a process of its own, so that no library's threads get in another's way; processes that are not asked
sleep. Rounds are interleaved (A B C A B C) and the median counts. Tokens are made and joined by the same `tokenizers` file for
all, inside the measured time; finding candidates is not decoding and is left out, scoring them is in.

Each decoder is run with one thread and with two, and its better figure counts: for matrices this small two threads can wait for
each other longer than they work.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from tokenizers import Tokenizer

from app.errors import SetupError
from app.lexicon import Lexicon
from app.text import fold
from training.evaluation.cases import SEED, demo_items
from training.evaluation.decoding import drafts, limits, plain_greedy
from training.evaluation.markdown import decimal, percent, table
from training.local import PAD, LocalBackend
from training.noise import corrupt

THREADS = (1, 2)
MAX_TOKENS = 72
BATCHES = (1, 32)
SAME = 0.99  # share of texts on which CTranslate2 in fp32 must agree with transformers
TRANSFORMERS, CTRANSLATE2, PLAIN = "transformers `generate`, fp32", "CTranslate2, int8", "our graphs, a token a pass"
ALONE, SERVED = "ours", "ours, with candidates scored"

Decode = Callable[[Sequence[int]], list[str]]  # positions of queries that make one batch → their texts


def transformers_decoder(threads: int, checkpoint: Path, texts: Sequence[str]) -> Decode:
    """Greedy `generate` at its ordinary best: fp32, KV cache, one beam."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    torch.set_num_threads(threads)
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = _tokenizer(checkpoint)
    tokenizer.enable_padding(pad_id=PAD, pad_token="<pad>")

    def decode(rows: Sequence[int]) -> list[str]:
        encoded = tokenizer.encode_batch_fast([texts[i] for i in rows])
        ids, mask = (torch.tensor([getattr(e, name) for e in encoded]) for name in ("ids", "attention_mask"))
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids, attention_mask=mask, num_beams=1, do_sample=False, use_cache=True, max_new_tokens=MAX_TOKENS
            )
        return [text.strip() for text in tokenizer.decode_batch(found.tolist())]

    return decode


def ctranslate2_decoder(threads: int, converted: Path, kind: str, checkpoint: Path, texts: Sequence[str]) -> Decode:
    """Greedy search of CTranslate2, started from `</s>` as the checkpoint is."""
    import ctranslate2

    model = ctranslate2.Translator(str(converted), device="cpu", compute_type=kind, inter_threads=1, intra_threads=threads)
    tokenizer = _tokenizer(checkpoint)
    ids_of = tokenizer.get_vocab()
    tokens = sorted(ids_of, key=ids_of.__getitem__)

    def decode(rows: Sequence[int]) -> list[str]:
        sources = [[tokens[i] for i in e.ids] for e in tokenizer.encode_batch_fast([texts[i] for i in rows])]
        starts = [["</s>"]] * len(sources)
        found = model.translate_batch(sources, starts, beam_size=1, max_decoding_length=MAX_TOKENS)
        ids = [[ids_of[token] for token in result.hypotheses[0]] for result in found]
        return [text.strip() for text in tokenizer.decode_batch(ids)]

    return decode


def plain_decoder(threads: int, repository: Path, texts: Sequence[str]) -> Decode:
    backend = LocalBackend(repository, threads)

    def decode(rows: Sequence[int]) -> list[str]:
        sources = backend.encode([[texts[i]] for i in rows])[:, 0]
        return backend.decode(plain_greedy(backend.verifier(sources), sources, limits(backend, sources)))

    return decode


def aggressive_decoder(threads: int, repository: Path, texts: Sequence[str], proposals: Sequence[Sequence[str]]) -> Decode:
    backend = LocalBackend(repository, threads)

    def decode(rows: Sequence[int]) -> list[str]:
        sources = backend.encode([[texts[i]] for i in rows])[:, 0]
        candidates = backend.encode([list(proposals[i]) or [""] for i in rows])
        outputs, *_ = backend.aggressive.decode(sources, candidates, backend.verifier(sources))
        return backend.decode(outputs)

    return decode


def _tokenizer(checkpoint: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    tokenizer.enable_truncation(64)
    tokenizer.no_padding()
    return tokenizer


def convert(checkpoint: Path, out: Path) -> None:
    """Checkpoint → CTranslate2, in fp32; its own loader lacks two things about a checkpoint like ours.

    It asks a BART configuration whether norms come first (`normalize_before`, which transformers no longer keeps), and it
    takes the tokenizer's class from a name that is no class.
    """
    import torch
    from ctranslate2.converters import TransformersConverter
    from transformers import PreTrainedTokenizerFast

    class Converter(TransformersConverter):  # type: ignore[misc]
        def load_model(self, model_class: type, name: str, **given: object) -> object:
            model = model_class.from_pretrained(name, **{**given, "dtype": torch.float32})  # type: ignore[attr-defined]
            model.config.normalize_before = hasattr(model.get_encoder(), "layer_norm")
            return model

        def load_tokenizer(self, _: type, name: str, **given: object) -> object:
            return PreTrainedTokenizerFast.from_pretrained(name, **given)

    Converter(str(checkpoint)).convert(str(out), force=True)


def _work(make: Callable[[], Decode], count: int, pipe: Connection) -> None:
    """A worker process: each batch size received is answered with (seconds, texts) of all queries in such batches."""
    decode = make()
    pipe.send("ready")
    while size := pipe.recv():
        started = time.perf_counter()
        texts = [text for start in range(0, count, size) for text in decode(range(start, min(start + size, count)))]
        pipe.send((time.perf_counter() - started, texts))


class Worker:
    """A decoder in a process of its own. `make` runs there: it may import what this process must not."""

    def __init__(self, make: Callable[[], Decode], count: int) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(make, count, theirs), daemon=True)
        self._process.start()
        theirs.close()  # ours alone stays open, so that a worker's death ends a `recv` with EOFError
        self._pipe.recv()

    def run(self, size: int) -> tuple[float, list[str]]:
        """Decode every query in batches of `size`: seconds and texts."""
        self._pipe.send(size)
        found: tuple[float, list[str]] = self._pipe.recv()
        return found

    def close(self) -> None:
        """Idempotent."""
        if self._process.is_alive():
            self._pipe.send(0)
        self._process.join()


@dataclass(slots=True)
class Timed:
    """What a decoder answered, and its seconds for all queries, by batch size and threads."""

    texts: list[str] = field(default_factory=list)
    seconds: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))

    def per_second(self, size: int, threads: int) -> float:
        return len(self.texts) / median(self.seconds[size, threads])

    def best(self, size: int) -> tuple[float, int]:
        """(queries a second, threads) of the better thread count."""
        return max((self.per_second(size, threads), threads) for threads in THREADS)


def traffic(count: int) -> tuple[list[str], list[list[str]]]:
    """Queries, half of them clean demo names and half names with one to three errors, and the candidates of each."""
    rng = random.Random(SEED + 77)
    items = [item for item in demo_items() if len(fold(item.title)) >= 4]
    lexicon = Lexicon(items)
    texts = []
    for n in range(count):
        item = rng.choice(items)
        name = fold(rng.choice((item.title, item.artist or item.title, f"{item.title} {item.artist}")))
        texts.append(corrupt(name, rng) if n % 2 else name)
    rng.shuffle(texts)
    return texts, [drafts(lexicon, text) for text in texts]


def measure(workers: dict[tuple[str, int], Worker], rounds: int) -> dict[str, Timed]:
    """Interleaved rounds over all decoders, thread counts and batch sizes, after one that is not counted."""
    timed = {name: Timed() for name, _ in workers}
    for turn in range(rounds + 1):
        for size in BATCHES:
            for (name, threads), worker in workers.items():
                seconds, timed[name].texts = worker.run(size)
                if turn:
                    timed[name].seconds[size, threads].append(seconds)
    return timed


def speed(repository: Path, checkpoint: Path, count: int, rounds: int, console: Console) -> list[str]:
    """Markdown: queries a second of every decoder, and how often its text is that of transformers.

    Raises:
        SetupError: CTranslate2 in fp32 says something else than transformers, so the weights are not the same.
    """
    texts, proposals = traffic(count)
    none: list[list[str]] = [[] for _ in texts]
    with TemporaryDirectory() as folder, ExitStack() as stack, console.status("decoding with every decoder in turn"):
        converted = Path(folder) / "ctranslate2"
        convert(checkpoint, converted)

        def worker(make: Callable[..., Decode], *given: object) -> Worker:
            started = Worker(partial(make, *given), count)
            stack.callback(started.close)
            return started

        makers: dict[str, tuple[Callable[..., Decode], tuple[object, ...]]] = {
            TRANSFORMERS: (transformers_decoder, (checkpoint, texts)),
            CTRANSLATE2: (ctranslate2_decoder, (converted, "int8", checkpoint, texts)),
            PLAIN: (plain_decoder, (repository, texts)),
            ALONE: (aggressive_decoder, (repository, texts, none)),
            SERVED: (aggressive_decoder, (repository, texts, proposals)),
        }
        workers = {(n, threads): worker(make, threads, *given) for n, (make, given) in makers.items() for threads in THREADS}
        exact = worker(ctranslate2_decoder, 1, converted, "float32", checkpoint, texts)
        same = agreement(exact.run(32)[1], workers[TRANSFORMERS, 1].run(32)[1])
        exact.close()
        if same < SAME:
            raise SetupError(f"CTranslate2 in fp32 agrees with transformers on {same:.1%} of the queries: not the same weights")
        timed = measure(workers, rounds)
    return report(timed, rounds, same)


def agreement(texts: Sequence[str], others: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(texts, others, strict=True)) / len(texts)


def report(timed: dict[str, Timed], rounds: int, same: float) -> list[str]:
    slow, rival = timed[TRANSFORMERS], timed[CTRANSLATE2]
    rows = []
    for name, one in timed.items():
        cells = [name]
        for size in BATCHES:
            rate, threads = one.best(size)
            other = one.per_second(size, 3 - threads)
            cells += [f"{rate:,.0f} ({threads}; {3 - threads}: {other:,.0f})"]
            cells += [decimal(rate / beside.best(size)[0]) for beside in (slow, rival)]
        rows.append([*cells, percent(agreement(one.texts, slow.texts))])
    header = ["decoder"]
    for size in BATCHES:
        header += [f"batch {size}: queries/s", "× transformers", "× CTranslate2"]
    return [
        f"The same weights, {len(slow.texts):,} queries (half clean demo names, half with one to three errors), greedy, "
        f"tokenisation included for all; median of {rounds} interleaved rounds, each decoder in a process of its own, one at a "
        "time. Each with one thread and with two: its better figure counts, brackets say with how many threads it was and what "
        f"the other number gave. CTranslate2 in fp32 gives the text of transformers for {percent(same)}: the same weights.",
        "",
        *table([*header, "same text as transformers"], rows),
    ]
