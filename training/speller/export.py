"""Speller checkpoint → two ONNX graphs for Triton, fp32 for a GPU engine builder and int8 for the CPU.

What the graphs compute, and their tensors, is in `training/speller/graph.py`; what int8 means here, in `training/quantise.py`.

There is no KV cache to carry: aggressive decoding (arXiv 2106.04970, 2205.10350) needs the whole prefix in one or two passes,
and the argmax and the log-softmax happen inside the graph, so that next to nothing is copied out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM

from training.calibration import speller_feeds
from training.quantise import quantise
from training.speller.graph import Decoder, Encoder

OPSET = 18
Axes = dict[str, list[str]]
ENCODER_INPUTS: Axes = {"input_ids": ["batch", "source"], "attention_mask": ["batch", "source"]}
HIDDEN: Axes = {"hidden": ["batch", "source"]}
DECODER_INPUTS: Axes = {
    **HIDDEN,
    "attention_mask": ["batch", "source"],
    "rows": ["trees"],
    "visible": ["trees", "width", "width"],
    "slots": ["nodes"],
    "tokens": ["nodes"],
    "positions": ["nodes"],
    "asked": ["asked"],
    "edges": ["edges"],
    "labels": ["edges"],
}
DECODER_OUTPUTS: Axes = {"argmax": ["asked"], "best": ["asked"], "logprob": ["edges"]}


def _export(module: torch.nn.Module, feeds: tuple[torch.Tensor, ...], file: Path, inputs: Axes, outputs: Axes) -> None:
    """Trace `module` on `feeds`, one for each of `inputs`, whose named axes stay dynamic."""
    torch.onnx.export(
        module,
        feeds,
        file,
        opset_version=OPSET,
        dynamo=False,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes={name: dict(enumerate(axes)) for name, axes in {**inputs, **outputs}.items()},
    )


def export_fp32(checkpoint: Path, out: Path, packed: bool = True) -> tuple[Path, Path]:
    """Write `encoder.onnx` and `decoder.onnx` to `out`; every axis but d_model is dynamic. For TensorRT: not `packed`."""
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    out.mkdir(parents=True, exist_ok=True)
    encoder_file, decoder_file = out / "encoder.onnx", out / "decoder.onnx"
    encoder, decoder = Encoder(model, packed).eval(), Decoder(model, packed).eval()
    ids, mask = torch.tensor([[5, 6, 2], [7, 2, 1]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    visible = torch.tensor([[[1, 0], [1, 1]], [[1, 0], [0, 1]]], dtype=torch.bool)
    nodes = torch.arange(3)  # two of the first tree, one of the second
    with torch.no_grad():
        trees = (torch.arange(2), visible, nodes, torch.tensor([2, 5, 2]), torch.tensor([0, 1, 0]), nodes, nodes, nodes)
        _export(encoder, (ids, mask), encoder_file, ENCODER_INPUTS, HIDDEN)
        _export(decoder, (encoder(ids, mask), mask, *trees), decoder_file, DECODER_INPUTS, DECODER_OUTPUTS)
    return encoder_file, decoder_file


def install(checkpoint: Path, repository: Path, work: Path) -> None:
    """Export `checkpoint` and put the int8 graphs and the tokenizer into the Triton model repository."""
    encoder, decoder = export_fp32(checkpoint, work)
    feeds = speller_feeds(encoder, decoder, checkpoint / "tokenizer.json")
    for source, model, seen in zip((encoder, decoder), ("speller_encoder", "speller_decoder"), feeds, strict=True):
        target = repository / model / "1" / "model.onnx"
        target.parent.mkdir(parents=True, exist_ok=True)
        quantise(source, target, seen)
    for model in ("speller_tokenize", "speller_detokenize"):
        (repository / model / "1").mkdir(parents=True, exist_ok=True)
        shutil.copy(checkpoint / "tokenizer.json", repository / model / "1" / "tokenizer.json")
