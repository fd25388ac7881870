"""(b) A model directory that Infinity's ONNX engine can load: our int8 graph, cut before its pooling.

Infinity pools and normalises itself, from an output called ``last_hidden_state``; ours does both in the graph. The weights
and every node up to the cut stay as they are. Run in Infinity's environment: ``infinity_model.py DIRECTORY``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from onnx.utils import Extractor

ROOT = Path(__file__).resolve().parents[2]
GRAPH = ROOT / "triton" / "models" / "embedder_encoder" / "1" / "model.onnx"
CHECKPOINT = ROOT / "training" / "checkpoints" / "embedder"
HIDDEN = "last_hidden_state"


def hidden_state(graph: onnx.GraphProto) -> str:
    """Name of the tensor that the pooling reads, [batch, tokens, width]: it is weighed by the mask and summed."""
    makers = {name: node for node in graph.node for name in node.output}
    sums = [makers.get(node.input[0]) for node in graph.node if node.op_type == "ReduceSum"]
    weighed = next(node for node in sums if node is not None and node.op_type == "Mul")
    return weighed.input[0]


def main(out: Path) -> None:
    model = onnx.load(GRAPH)
    last = hidden_state(model.graph)
    width = json.loads((CHECKPOINT / "config.json").read_text())["hidden_size"]
    for node in model.graph.node:
        node.output[:] = [HIDDEN if name == last else name for name in node.output]
        node.input[:] = [HIDDEN if name == last else name for name in node.input]
    for known in [value for value in model.graph.value_info if value.name in (last, HIDDEN)]:
        model.graph.value_info.remove(known)
    model.graph.value_info.append(helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, ["batch", "tokens", width]))
    cut = Extractor(model).extract_model(["input_ids", "attention_mask"], [HIDDEN])
    onnx.checker.check_model(cut)
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(cut, out / "model_quantized.onnx")  # in a subdirectory, optimum 2.1 does not find what Infinity names
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(CHECKPOINT / name, out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
