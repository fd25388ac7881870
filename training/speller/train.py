"""Train the speller: a BART-family encoder–decoder that rewrites a mistyped name as the name.

    searchbar train speller --catalogue demo.csv --catalogue charts.tsv --minutes 60 --out models/speller

The network is `MBartForConditionalGeneration`, the pre-norm member of the family: post-norm BART of this size had not
learnt to copy after 260 000 examples, pre-norm copies within 24 000 (training/LOG.md). `--config base` builds the full shape
of facebook/bart-base, and any saved BART or MBART continues through the same loop with `--init`. How a run is run is
`training/loop.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    MBartConfig,
    MBartForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from app.errors import SetupError
from training import beforehand
from training.ahead import ahead
from training.corpus import HOLDOUT, Corpus
from training.loop import Loop, read_state
from training.run import Run, accelerator
from training.shape import kept
from training.speller.batches import BOS, EOS, PAD, UNK, Batch, Batches, collate, exact, probe_set
from training.speller.tokenizer import train_tokenizer

__all__ = ["PAD", "Batches", "SpellerRun", "build_model", "collate", "exact", "preset", "probe_set", "train"]


@dataclass(slots=True)
class SpellerRun(Run):
    """Hyper-parameters of a run; the network's are those of `small` unless `preset` made it."""

    config: str = "small"
    copy_phase: float = 0.10  # share of the run that copies clean queries only: copying must be learnt before correcting
    clean_share: float = 0.25  # of the examples after the copy phase: correct queries must stay
    family: str = "mbart"  # pre-norm; "bart" is post-norm
    vocab_size: int = 4096
    d_model: int = 256
    encoder_layers: int = 4
    decoder_layers: int = 2
    ffn: int = 1024
    heads: int = 4
    holdout: float = HOLDOUT  # share of titles never trained on
    probes: int = 256  # queries that a checkpoint is judged by


SHAPES: dict[str, dict[str, Any]] = {
    "tiny": dict(vocab_size=512, d_model=64, encoder_layers=1, decoder_layers=1, ffn=128, heads=2, probes=64, compile=False),
    "small": {},
    "base": dict(
        family="bart", d_model=768, encoder_layers=6, decoder_layers=6, ffn=3072, heads=12, micro_batch=64, lr=3e-4, warmup=0.06
    ),
}


def preset(config: str, **given: Any) -> SpellerRun:
    """The run of `config` (a key of `SHAPES`), with what is `given` (and not None) instead."""
    return SpellerRun(config=config, **SHAPES[config] | {name: value for name, value in given.items() if value is not None})


def build_model(run: SpellerRun, vocab_size: int | None = None) -> Any:
    """A BART or MBART of the run's shape with random weights; its decoder starts from `</s>` like BART's."""
    shape: dict[str, Any] = dict(
        vocab_size=vocab_size or run.vocab_size, d_model=run.d_model, encoder_layers=run.encoder_layers,
        decoder_layers=run.decoder_layers, encoder_ffn_dim=run.ffn, decoder_ffn_dim=run.ffn,
        encoder_attention_heads=run.heads, decoder_attention_heads=run.heads, tie_word_embeddings=True,
        bos_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=EOS, forced_eos_token_id=None,
        init_std=0.02,
    )  # fmt: skip
    if run.family == "bart":
        return BartForConditionalGeneration(BartConfig(**shape))
    still = dict(dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
    return MBartForConditionalGeneration(MBartConfig(**shape, **still, scale_embedding=True, max_position_embeddings=128))


class Speller:
    """The speller as a `training.loop.Task`."""

    name = "speller"

    def __init__(self, model: Any, tokenizer: Any, corpus: Corpus, run: SpellerRun) -> None:
        self.network, self.tokenizer, self.corpus, self.run = model, tokenizer, corpus, run
        self.clean, self.typos = probe_set(corpus, run.probes, seed=run.seed + 1_000_003)
        self.batches: Batches | None = None

    def stream(self, seed: str, size: int) -> Iterator[Batch]:
        self.batches = Batches(self.corpus, self.tokenizer, self.run, seed, size)
        return ahead(self.batches, self.run.workers)

    def at(self, progress: float) -> None:
        if self.batches:
            self.batches.progress = progress

    def loss(self, network: Callable[..., Any], batch: Batch, device: torch.device) -> torch.Tensor:
        loss: torch.Tensor = network(**{name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}).loss
        return loss

    def weight(self, batch: Batch) -> float:
        return float((batch["labels"] >= 0).sum())

    def save(self, out: Path, facts: dict[str, Any]) -> None:
        self.network.save_pretrained(out)
        self.tokenizer.save_pretrained(out)
        (out / "run.json").write_text(json.dumps(facts, indent=1) + "\n")

    def probe(self) -> str:
        copied, fixed = (exact(self.network, self.tokenizer, pairs) for pairs in (self.clean, self.typos))
        return f"clean copied {copied:.1%}  typos corrected {fixed:.1%}"


def load_saved(source: str) -> tuple[Any, Any]:
    """Model (fp32) and tokenizer of a directory, or of a name on the Hugging Face hub.

    Raises:
        SetupError: there is no such model, or its special tokens are not the ones that are served.
    """
    beforehand.require_speller(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForSeq2SeqLM.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as exc:
        where = "holds no sequence-to-sequence model" if Path(source).is_dir() else "no such directory, and not on the hub"
        raise SetupError(f"--init {source}: {where} ({str(exc).splitlines()[0]})") from exc
    ids = (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    if ids != (BOS, PAD, EOS, UNK) or model.config.decoder_start_token_id != EOS:
        wanted = "<s>, <pad>, </s>, <unk> must have the ids 0 to 3 and </s> must start the decoder, as in BART"
        raise SetupError(f"--init {source}: {wanted}; these are {ids}")
    return model, tokenizer


def cut(model: Any, encoder_layers: int, decoder_layers: int) -> None:
    """Keep so many layers of the two halves of `model`. Raises InvalidInput when there are not so many."""
    for half, count in ((model.get_encoder(), encoder_layers), (model.get_decoder(), decoder_layers)):
        half.layers = kept(half.layers, count)
    model.config.encoder_layers, model.config.decoder_layers = encoder_layers, decoder_layers


def new(corpus: Corpus, run: SpellerRun, out: Path, made: Accelerator) -> tuple[Any, Any]:
    """A model with random weights and a tokenizer trained on the names, which all processes share."""
    if made.is_main_process:
        bpe = train_tokenizer(corpus, run.vocab_size, samples=min(400_000, 100 * len(corpus.entries)))
        PreTrainedTokenizerFast(
            tokenizer_object=bpe, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
        ).save_pretrained(out)
    made.wait_for_everyone()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    torch.manual_seed(run.seed)
    return build_model(run, len(tokenizer)), tokenizer


def train(corpus: Corpus, out: Path, run: SpellerRun, init: str | None = None, layers: tuple[int, int] | None = None) -> None:
    """Train to the end of the run, checkpointing to `out`; an unfinished run in `out` is resumed.

    Args:
        layers: of encoder and decoder, how many to keep of those of `init`.

    Raises:
        InvalidInput: `init` has fewer layers.
        SetupError: `init` or what `out` holds cannot be used, or this machine lacks the precision.
        Diverged: the loss became infinite or not a number.
    """
    made = accelerator(run)
    disable_progress_bar()  # there is one bar, the loop's
    out.mkdir(parents=True, exist_ok=True)
    state = read_state(out)
    if state:
        begun = json.loads((out / "run.json").read_text(encoding="utf-8")).get("config", run.config)
        if not init and begun != run.config:
            raise SetupError(f"{out} holds an unfinished run of --config {begun}: go on with that, or train into another --out")
        made.print(f"resuming at step {state['step']:,} ({state['spent']:.1f} min)")
    source = str(out) if state else init
    model, tokenizer = load_saved(source) if source else new(corpus, run, out, made)
    if layers and init and not state:
        cut(model, *layers)
    model.train()
    # On a CPU the fused attention's backward took 38 % of a step at 12 tokens; a GPU is quicker with it.
    model.set_attn_implementation("eager" if made.device.type == "cpu" else "sdpa")
    made.print(f"{len(corpus.entries):,} names, {model.num_parameters() / 1e6:.1f} M parameters")
    Loop(Speller(model, tokenizer, corpus, run), run, out, made, state).train()
    made.end_training()
