"""Run in the training environment by test_engines.py: small graphs, each with one thing that TensorRT does not take."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from app.settings import ROOT
from training.engine_check import check

Node = helper.make_node
AS_FLOAT = Node("Cast", ["input_ids"], ["as_float"], to=TensorProto.FLOAT)
AXIS = Node("Constant", [], ["axis"], value_int=1)
RELU = Node("Relu", ["as_float"], ["out"])
FLAT, WHOLE = ["n"], ["n", "m"]
# What is said, type and axes of the output, the nodes.
SPOILT = (
    ("its shape depends on the data", TensorProto.INT64, WHOLE, [AS_FLOAT, Node("NonZero", ["as_float"], ["out"])]),
    ("INT64, supported are FP32", TensorProto.INT64, WHOLE, [AXIS, Node("CumSum", ["input_ids", "axis"], ["out"])]),
    (
        "`axes` must be an initializer",
        TensorProto.FLOAT,
        WHOLE,
        [AS_FLOAT, Node("Shape", ["input_ids"], ["axes"], start=0, end=1), Node("ReduceSum", ["as_float", "axes"], ["out"])],
    ),
    ("DOUBLE, which TensorRT", TensorProto.DOUBLE, WHOLE, [Node("Cast", ["input_ids"], ["out"], to=TensorProto.DOUBLE)]),
    ("Det : not supported by TensorRT", TensorProto.FLOAT, [], [AS_FLOAT, Node("Det", ["as_float"], ["out"])]),
    (
        "the rank of its output is not known",
        TensorProto.INT64,
        FLAT,
        [
            AS_FLOAT,
            Node("NonZero", ["as_float"], ["places"]),
            Node("Constant", [], ["flat"], value_ints=[-1]),
            Node("Reshape", ["places", "flat"], ["shape"]),
            Node("Expand", ["as_float", "shape"], ["free"]),
            Node("Shape", ["free"], ["out"]),
        ],
    ),
    (
        "operators of com.microsoft",
        TensorProto.FLOAT,
        WHOLE,
        [AS_FLOAT, Node("Gelu", ["as_float"], ["out"], domain="com.microsoft")],
    ),
    ("opset 8: TensorRT reads", TensorProto.FLOAT, WHOLE, [AS_FLOAT, RELU]),
    ("inputs are input_ids, mask", TensorProto.FLOAT, WHOLE, [AS_FLOAT, RELU]),
)


def graph(said: str, kind: int, axes: list[str], nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    names = ["input_ids", "mask" if said.startswith("inputs are") else "attention_mask"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in names]
    made = helper.make_graph(nodes, "spoilt", inputs, [helper.make_tensor_value_info("out", kind, axes)])
    opset = 8 if said.startswith("opset") else 18
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=domains, ir_version=8)


def main(folder: Path) -> None:
    for said, kind, axes, nodes in SPOILT:
        path = folder / "embedder_encoder.onnx"
        onnx.save(graph(said, kind, axes, nodes), path)
        problems = check(path, ROOT / "triton" / "engines")
        assert any(said in problem for problem in problems), (said, problems)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
