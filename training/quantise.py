"""fp32 ONNX → int8 ONNX for CPUs: weights per output channel, activations per token.

ONNX Runtime's own dynamic quantisation takes one activation scale for a whole tensor, so that an answer depends on the other
queries of its batch and on its padding: aggressive decoding would then differ from plain greedy decoding now and then. Here
each token has its own scale (LLM.int8(), arXiv 2208.07339 §3.1, without the outlier split), so a row's result is its own.

Every `MatMul` with a constant weight [k, n] becomes

    scale = max|x| / 127 over k;  q = round(x / scale) + 128 as uint8;  y = MatMulInteger(q, W₈) · scale · scale_W

Embedding tables are int8 too, with a scale for each row, and widened after the lookup.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_TINY = 1e-8  # keeps an all-zero row from dividing by zero


def _constants() -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.array(1 / 127, np.float32), "q8_step"),
        numpy_helper.from_array(np.array(_TINY, np.float32), "q8_tiny"),
        numpy_helper.from_array(np.array(128, np.float32), "q8_shift"),
        numpy_helper.from_array(np.array(128, np.uint8), "q8_zero"),
        numpy_helper.from_array(np.array([-1], np.int64), "q8_last"),
    ]


def quantise(source: Path, target: Path) -> None:
    """Write an int8 copy of the fp32 graph in `source` to `target`; inputs and outputs keep their types."""
    model = onnx.load(source)
    graph = model.graph
    weights = {t.name: t for t in graph.initializer}
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    quantised: dict[str, str] = {}  # activation → its prefix, shared by q, k and v projections
    nodes: list[onnx.NodeProto] = []
    dropped: set[str] = set()
    added = _constants()
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is not None and len(weight.dims) == 2:
            x, y = node.input[0], node.output[0]
            if x not in quantised:
                quantised[x] = f"{x}_q8"
                nodes += _quantise_activation(x, quantised[x])
            nodes += _integer_matmul(quantised[x], weight, y, added)
            dropped.add(weight.name)
        elif node.op_type == "Gather" and _is_table(weights.get(node.input[0])):
            table = weights[node.input[0]]
            nodes += _lookup(table, node.input[1], node.output[0], added)
            dropped.add(table.name)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    still_used = {name for node in nodes for name in node.input}
    kept = [t for t in graph.initializer if t.name not in dropped or t.name in still_used]
    del graph.initializer[:]
    graph.initializer.extend(kept + added)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _is_table(tensor: onnx.TensorProto | None) -> bool:
    return tensor is not None and len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT


def _quantise_activation(x: str, q: str) -> list[onnx.NodeProto]:
    """Nodes that give `{q}` uint8 and `{q}_scale` float32 [..., 1] for the activation `x` [..., k]."""
    return [
        helper.make_node("Abs", [x], [f"{q}_abs"]),
        helper.make_node("ReduceMax", [f"{q}_abs", "q8_last"], [f"{q}_max"], keepdims=1),
        helper.make_node("Mul", [f"{q}_max", "q8_step"], [f"{q}_raw"]),
        helper.make_node("Add", [f"{q}_raw", "q8_tiny"], [f"{q}_scale"]),
        helper.make_node("Div", [x, f"{q}_scale"], [f"{q}_unit"]),
        helper.make_node("Round", [f"{q}_unit"], [f"{q}_round"]),
        helper.make_node("Add", [f"{q}_round", "q8_shift"], [f"{q}_float"]),
        helper.make_node("Cast", [f"{q}_float"], [q], to=TensorProto.UINT8),
    ]


def _integer_matmul(q: str, weight: onnx.TensorProto, y: str, added: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
    """Nodes for y = q · W₈ rescaled; the int8 weight and its per-column scale join `added` once."""
    int8, scale = f"{weight.name}_q8", f"{weight.name}_q8_scale"
    if int8 not in {t.name for t in added}:
        array = numpy_helper.to_array(weight)
        column = np.maximum(np.abs(array).max(axis=0), _TINY) / 127
        added.append(numpy_helper.from_array(np.round(array / column).astype(np.int8), int8))
        added.append(numpy_helper.from_array(column.astype(np.float32), scale))
    return [
        helper.make_node("MatMulInteger", [q, int8, "q8_zero"], [f"{y}_i32"]),
        helper.make_node("Cast", [f"{y}_i32"], [f"{y}_f32"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{y}_f32", f"{q}_scale"], [f"{y}_row"]),
        helper.make_node("Mul", [f"{y}_row", scale], [y]),
    ]


def _lookup(table: onnx.TensorProto, ids: str, y: str, added: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
    """Nodes for y = table[ids]; the int8 rows and their scales join `added` once."""
    int8, scale = f"{table.name}_rows_q8", f"{table.name}_rows_q8_scale"
    if int8 not in {t.name for t in added}:
        array = numpy_helper.to_array(table)
        row = np.maximum(np.abs(array).max(axis=1, keepdims=True), _TINY) / 127
        added.append(numpy_helper.from_array(np.round(array / row).astype(np.int8), int8))
        added.append(numpy_helper.from_array(row.astype(np.float32), scale))
    return [
        helper.make_node("Gather", [int8, ids], [f"{y}_i8"], axis=0),
        helper.make_node("Gather", [scale, ids], [f"{y}_scale"], axis=0),
        helper.make_node("Cast", [f"{y}_i8"], [f"{y}_f32"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{y}_f32", f"{y}_scale"], [y]),
    ]
