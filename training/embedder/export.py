"""Sentence-transformers checkpoint → int8 ONNX in the model repository, with pooling and L2 normalisation in the graph.

input_ids, attention_mask [batch, tokens] int64 → embedding [batch, dimensions] float32

Any encoder of the BERT family goes this way (BERT, RoBERTa, DistilBERT, MPNet …) whose sentence embedding is the mean of its
token states or the state of its first token.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from app.errors import SetupError
from training import beforehand
from training.calibration import embedder_feeds
from training.embedder.graph import PackedBert, is_alike
from training.quantise import quantise

log = logging.getLogger("searchbar.export")

OPSET = 18
POOLINGS = ("mean", "cls")
MAX_TOKENS = 64  # what embedder_tokenize cuts off at
_WIDTH = re.compile(r'(name: "(?:EMBEDDING|embedding)" data_type: TYPE_FP32 dims: \[ )\d+( \])')


class Pooled(torch.nn.Module):
    """An encoder, the mean of the token states that are not padding (or the first token's), unit length."""

    def __init__(self, encoder: torch.nn.Module, pooling: str = "mean") -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            sentence = states[:, 0]
        else:
            weight = attention_mask.unsqueeze(-1).to(states.dtype)
            sentence = (states * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return sentence / sentence.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def load(checkpoint: Path | str) -> SentenceTransformer:
    """The sentence model of a local directory, on the CPU.

    Raises:
        SetupError: it cannot be read, or it is one that this project cannot train or serve; the message says why.
    """
    beforehand.require_embedder(checkpoint)
    try:
        model = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    except Exception as exc:  # whatever reading configuration, weights and tokenizer meets
        raise SetupError(f"{checkpoint} is no sentence-transformers model ({exc})") from exc
    names = [type(module).__name__ for module in model]
    if names[:2] != ["Transformer", "Pooling"] or any(name != "Normalize" for name in names[2:]):
        raise SetupError(f"{checkpoint} is made of {', '.join(names)}: only Transformer, Pooling and Normalize are served")
    if (pooling := model[1].pooling_mode) not in POOLINGS:
        raise SetupError(f"{checkpoint} pools by {pooling}: only {' and '.join(POOLINGS)} are served")
    places = getattr(model[0].auto_model.config, "max_position_embeddings", MAX_TOKENS)
    if places < MAX_TOKENS:
        raise SetupError(f"{checkpoint} has {places} positions, queries may have {MAX_TOKENS} tokens")
    if not (Path(checkpoint) / "tokenizer.json").exists():
        raise SetupError(f"{checkpoint} has no tokenizer.json: save it with a fast tokenizer")
    return model


def export_fp32(checkpoint: Path, out: Path, packed: bool = True) -> tuple[Path, int]:
    """Write `embedder.onnx` to `out`; batch and tokens are dynamic. Returns it and the number of dimensions.

    Args:
        packed: leave padding out of the layers, where the model is BERT or named as BERT is; for TensorRT: not.

    Raises:
        SetupError: see `load`.
    """
    model = load(checkpoint)
    encoder = model[0].auto_model.float().eval()
    encoder.set_attn_implementation("eager")
    pooling = model[1].pooling_mode
    if packed and not is_alike(encoder):
        log.warning("%s: padding stays in the layers of a %s: slower, the same answers", checkpoint, encoder.config.model_type)
        packed = False
    graph = PackedBert(encoder, pooling) if packed else Pooled(encoder, pooling)
    out.mkdir(parents=True, exist_ok=True)
    ids = torch.randint(5, 100, (3, 7))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    target = out / "embedder.onnx"
    axes = {0: "batch", 1: "tokens"}
    with torch.no_grad():
        torch.onnx.export(
            graph.eval(), (ids, mask), target, opset_version=OPSET, dynamo=False,
            input_names=["input_ids", "attention_mask"], output_names=["embedding"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "batch"}},
        )  # fmt: skip
    return target, model[1].get_embedding_dimension()


def install(checkpoint: Path, repository: Path, work: Path) -> None:
    """Put the int8 graph and tokenizer of `checkpoint` into a model repository; a running server keeps what it has loaded.

    Raises:
        SetupError: see `beforehand.require_repository` and `load`.
    """
    beforehand.require_repository(repository, beforehand.EMBEDDER)
    graph, dimensions = export_fp32(checkpoint, work)
    target = repository / "embedder_encoder" / "1" / "model.onnx"
    target.parent.mkdir(parents=True, exist_ok=True)
    quantise(graph, target, embedder_feeds(checkpoint / "tokenizer.json"))
    shutil.copy(checkpoint / "tokenizer.json", repository / "embedder_tokenize" / "1" / "tokenizer.json")
    for model in beforehand.EMBEDDER[:2]:
        for file in (repository / model).rglob("*.pbtxt"):
            file.write_text(_WIDTH.sub(rf"\g<1>{dimensions}\g<2>", file.read_text(encoding="utf-8")), encoding="utf-8")
