"""Sentence-transformers checkpoint → ONNX with mean pooling and L2 normalisation in the graph.

input_ids, attention_mask [batch, tokens] int64 → embedding [batch, dimensions] float32
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from training.quantise import quantise

OPSET = 18


class Pooled(torch.nn.Module):
    """BERT, the mean of the token states that are not padding, unit length."""

    def __init__(self, bert: torch.nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return mean / mean.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def export_fp32(checkpoint: Path, out: Path) -> Path:
    """Write `embedder.onnx` to `out`; batch and tokens are dynamic."""
    model = SentenceTransformer(str(checkpoint), device="cpu")
    bert = model[0].auto_model.float().eval()
    bert.set_attn_implementation("eager")
    out.mkdir(parents=True, exist_ok=True)
    ids = torch.randint(5, 100, (3, 7))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    target = out / "embedder.onnx"
    axes = {0: "batch", 1: "tokens"}
    with torch.no_grad():
        torch.onnx.export(
            Pooled(bert).eval(), (ids, mask), target, opset_version=OPSET, dynamo=False,
            input_names=["input_ids", "attention_mask"], output_names=["embedding"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "batch"}},
        )  # fmt: skip
    return target


def install(checkpoint: Path, repository: Path, work: Path) -> None:
    """Export `checkpoint` and put the int8 graph and the tokenizer into the Triton model repository."""
    target = repository / "embedder_encoder" / "1" / "model.onnx"
    target.parent.mkdir(parents=True, exist_ok=True)
    quantise(export_fp32(checkpoint, work), target)
    shutil.copy(checkpoint / "tokenizer.json", repository / "embedder_tokenize" / "1" / "tokenizer.json")
