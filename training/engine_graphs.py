"""Checkpoints → the fp32 ONNX graphs that TensorRT plans are built from, and int8 copies with the scales in them.

The graphs in the model repository are for CPUs: int8 by operators of ONNX Runtime's own, which TensorRT cannot read. These
hold standard operators alone (`training/engine_check.py`), and compute every token instead of the live ones, so that no shape
depends on the data (`training/packed.py`).

int8 is explicit: QuantizeLinear and DequantizeLinear around every product with a weight, one scale a tensor for activations,
one an output channel for weights, both symmetric: TensorRT takes them as they are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tokenizers import Tokenizer

from training.embedder.export import export_fp32 as export_embedder
from training.local import load_module
from training.speller.export import export_fp32 as export_speller

ENGINES = ("speller_encoder", "speller_decoder", "embedder_encoder")
Feeds = dict[str, np.ndarray]
BATCH = 16


def export(speller: Path, embedder: Path, out: Path) -> list[Path]:
    """Write `<engine>.onnx`, fp32, for each of `ENGINES` to `out`; a graph that is there is replaced when the new one is whole.

    Raises:
        SetupError: the embedder cannot be read (`training.embedder.export.load`).
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        encoder, decoder = export_speller(speller, Path(folder), packed=False)
        embedding, _ = export_embedder(embedder, Path(folder), packed=False)
        targets = [out / f"{engine}.onnx" for engine in ENGINES]
        for source, target in zip((encoder, decoder, embedding), targets, strict=True):
            os.replace(source, target)
    return targets


def export_int8(out: Path, queries: list[str], repository: Path) -> list[Path]:
    """Write `<engine>.int8.onnx` beside each fp32 graph in `out`, scales from what `queries` make each product see.

    Args:
        queries: folded; a few hundred, misspelt ones among them.
        repository: the model repository, whose tokenizers and decoding are used.
    """
    feeds = calibration(out, queries, repository)
    targets = []
    with tempfile.TemporaryDirectory(dir=out) as folder:
        for engine in ENGINES:
            prepared, made, target = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx", out / f"{engine}.int8.onnx"
            quant_pre_process(str(out / f"{engine}.onnx"), str(prepared), skip_symbolic_shape=True, skip_optimization=True)
            quantize_static(
                str(prepared), str(made), _Reader(feeds[engine]), quant_format=QuantFormat.QDQ, per_channel=True,
                op_types_to_quantize=["MatMul", "Gemm"], activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": True, "WeightSymmetric": True, "MatMulConstBOnly": True, "QuantizeBias": False,
                    "DedicatedQDQPair": True,
                },
            )  # fmt: skip
            os.replace(made, target)
            targets.append(target)
    return targets


def calibration(graphs: Path, queries: list[str], repository: Path) -> dict[str, list[Feeds]]:
    """What each engine is fed while `queries` are embedded and spelt, by the fp32 graphs."""
    seen: dict[str, list[Feeds]] = {engine: [] for engine in ENGINES}
    sessions = {e: onnxruntime.InferenceSession(str(graphs / f"{e}.onnx")) for e in ENGINES}
    tokenizers = {
        m: Tokenizer.from_file(str(repository / f"{m}_tokenize" / "1" / "tokenizer.json")) for m in ("speller", "embedder")
    }
    aggressive: Any = load_module(repository / "speller_generate" / "1" / "aggressive.py")

    def run(engine: str, feeds: Feeds, outputs: list[str] | None = None) -> list[Any]:
        seen[engine].append(feeds)
        found: list[Any] = sessions[engine].run(outputs, feeds)
        return found

    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH]
        run("embedder_encoder", _padded(tokenizers["embedder"], batch, 0, least=8))
        ids = _padded(tokenizers["speller"], batch, aggressive.PAD, least=1)["input_ids"].astype(np.int32)
        aggressive.generate(ids, ids[:, None], run)
    return seen


def _padded(tokenizer: Tokenizer, texts: list[str], pad: int, least: int) -> Feeds:
    rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    ids = np.full((len(rows), max(least, *(len(row) for row in rows))), pad, np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)], mask[at, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: list[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)
