"""Speller checkpoint → two ONNX graphs for Triton, fp32 for a GPU engine builder and int8 for the CPU.

Encoder:  input_ids, attention_mask [batch, source] int64 → hidden [batch, source, d_model] float32

Decoder:  hidden, attention_mask, and for each row a whole prefix to verify or score:
          rows [rows] int64            which encoder row this prefix belongs to: many drafts share one encoding
          prefix [rows, target] int64  decoder input, starting with `</s>`
          labels [rows, target] int64  the token that follows each prefix position
          → argmax [rows, target] int64 and its log-probability `best` float32, and `logprob` float32 of the labels

There is no KV cache to carry: aggressive decoding (arXiv 2106.04970, 2205.10350) needs the whole prefix in one or two passes,
and the argmax and the log-softmax happen inside the graph, so that next to nothing is copied out.

See `training/quantise.py` for what int8 means here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM

from training.quantise import quantise

OPSET = 18


class Encoder(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


class Decoder(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.decoder, self.lm_head = model.get_decoder(), model.get_output_embeddings()
        self.register_buffer("bias", model.final_logits_bias)

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor,
        rows: torch.Tensor,
        prefix: torch.Tensor,
        labels: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        states = self.decoder(
            input_ids=prefix,
            encoder_hidden_states=hidden.index_select(0, rows),
            encoder_attention_mask=attention_mask.index_select(0, rows),
            use_cache=False,
        ).last_hidden_state
        logprobs = (self.lm_head(states) + self.bias).log_softmax(-1)  # ONNX Runtime's ReduceLogSumExp is four times slower
        best, argmax = logprobs.max(-1)
        return argmax, best, logprobs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def export_fp32(checkpoint: Path, out: Path) -> tuple[Path, Path]:
    """Write `encoder.onnx` and `decoder.onnx` to `out`; shapes other than d_model are dynamic."""
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    model.config.use_cache = False
    out.mkdir(parents=True, exist_ok=True)
    ids = torch.randint(4, 100, (3, 7))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    encoder, decoder = Encoder(model).eval(), Decoder(model).eval()
    encoder_file, decoder_file = out / "encoder.onnx", out / "decoder.onnx"
    with torch.no_grad():
        torch.onnx.export(
            encoder, (ids, mask), encoder_file, opset_version=OPSET, dynamo=False,
            input_names=["input_ids", "attention_mask"], output_names=["hidden"],
            dynamic_axes={"input_ids": {0: "batch", 1: "source"}, "attention_mask": {0: "batch", 1: "source"},
                          "hidden": {0: "batch", 1: "source"}},
        )  # fmt: skip
        rows, prefix = torch.tensor([0, 0, 1, 2, 2]), torch.randint(4, 100, (5, 6))
        dynamic = {"prefix": {0: "rows", 1: "target"}, "labels": {0: "rows", 1: "target"}, "rows": {0: "rows"},
                   "argmax": {0: "rows", 1: "target"}, "best": {0: "rows", 1: "target"}, "logprob": {0: "rows", 1: "target"},
                   "hidden": {0: "batch", 1: "source"}, "attention_mask": {0: "batch", 1: "source"}}  # fmt: skip
        torch.onnx.export(
            decoder, (encoder(ids, mask), mask, rows, prefix, prefix), decoder_file, opset_version=OPSET, dynamo=False,
            input_names=["hidden", "attention_mask", "rows", "prefix", "labels"], output_names=["argmax", "best", "logprob"],
            dynamic_axes=dynamic,
        )  # fmt: skip
    return encoder_file, decoder_file


def install(checkpoint: Path, repository: Path, work: Path) -> None:
    """Export `checkpoint` and put the int8 graphs and the tokenizer into the Triton model repository."""
    encoder, decoder = export_fp32(checkpoint, work)
    for source, model in ((encoder, "speller_encoder"), (decoder, "speller_decoder")):
        target = repository / model / "1" / "model.onnx"
        target.parent.mkdir(parents=True, exist_ok=True)
        quantise(source, target)
    for model in ("speller_tokenize", "speller_detokenize"):
        (repository / model / "1").mkdir(parents=True, exist_ok=True)
        shutil.copy(checkpoint / "tokenizer.json", repository / model / "1" / "tokenizer.json")
