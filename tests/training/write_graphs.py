"""Run in the training environment by test_quantise.py: a small fp32 graph and its int8 copies, written to the folder given.

The graph holds one of each thing that is quantised: a table looked up, a `Gemm` over rows with a bias, its weight turned, and a
`MatMul` over [batch, token, width]; and a product of two activations, which is not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.quantise import quantise

WIDTH = 64


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    constants = {
        "table": rng.normal(size=(50, WIDTH)) * rng.uniform(0.1, 5, (50, 1)),
        "turned": rng.normal(size=(96, WIDTH)) * rng.uniform(0.1, 5, (96, 1)),
        "bias": rng.normal(size=96),
        "weight": rng.normal(size=(WIDTH, 80)),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["looked_up"]),
        helper.make_node("Gemm", ["rows", "turned", "bias"], ["linear"], transB=1),
        helper.make_node("MatMul", ["tokens", "weight"], ["product"]),
        helper.make_node("MatMul", ["tokens", "other"], ["attention"]),
    ]
    shapes = {"rows": ["n", WIDTH], "tokens": ["b", "t", WIDTH], "other": ["b", WIDTH, "t"]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    inputs.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["i"]))
    results = {"looked_up": ["i", WIDTH], "linear": ["n", 96], "product": ["b", "t", 80], "attention": ["b", "t", "t"]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in results.items()]
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "fp32.onnx")
    quantise(folder / "fp32.onnx", folder / "int8.onnx")
    samples = [
        {
            "rows": rng.normal(size=(20, WIDTH)).astype(np.float32),
            "tokens": np.maximum(rng.normal(size=(2, 5, WIDTH)), -0.17).astype(np.float32),  # as GELU leaves them
            "other": np.ones((2, WIDTH, 5), np.float32),
            "ids": np.arange(3),
        }
        for _ in range(10)
    ]
    quantise(folder / "fp32.onnx", folder / "fixed.onnx", samples)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
