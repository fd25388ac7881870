"""fp32 ONNX → int8 ONNX for CPUs: weights per output channel, activations by fixed scales or per token.

ONNX Runtime's own dynamic quantisation takes one activation scale for a whole tensor, so that an answer depends on the other
queries of its batch and on its padding: aggressive decoding would then differ from plain greedy decoding now and then. Here
each token has its own scale (LLM.int8(), arXiv 2208.07339 §3.1, without the outlier split), so a row's result is its own.

Every product with a constant weight [k, n] (`MatMul`, or the `Gemm` of a linear layer over rows) becomes

    scale = max|x| / 127 over k;  q = round(x / scale) + 128 as uint8;  y = MatMulInteger(q, W₈) · scale · scale_W

Finding a scale a token and applying it are five passes over memory, more than the product itself costs in a small model. Given
samples of a graph's inputs, each activation gets one scale and zero point for good instead, those that lose the least on the
samples; one operator then multiplies, scales and adds the bias (ADR 25). A row's result stays its own: nothing depends on its
batch mates in either way.

Embedding tables are int8 too, with a scale for each row, and widened after the lookup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

_DOMAIN = "com.microsoft"  # of ONNX Runtime's own operators
_TINY = 1e-8  # keeps an all-zero row from dividing by zero


def _constants() -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.array(1 / 127, np.float32), "q8_step"),
        numpy_helper.from_array(np.array(_TINY, np.float32), "q8_tiny"),
        numpy_helper.from_array(np.array(128, np.float32), "q8_shift"),
        numpy_helper.from_array(np.array(128, np.uint8), "q8_zero"),
        numpy_helper.from_array(np.array(1, np.float32), "q8_one"),
        numpy_helper.from_array(np.array([-1], np.int64), "q8_last"),
    ]


Feed = Mapping[str, npt.NDArray[np.generic]]
"""A value for each input of a graph."""

KEPT = 200_000  # values of an activation that its scale is chosen from
CLIPPED = np.linspace(0.4, 1.0, 25)  # shares of an activation's range that are tried


def quantise(source: Path, target: Path, samples: Sequence[Feed] = ()) -> None:
    """Write an int8 copy of the fp32 graph in `source` to `target`; inputs and outputs keep their types.

    Args:
        samples: what the graph is given in use; with them activations have fixed scales, without a scale a token.
    """
    model = onnx.load(source)
    graph = model.graph
    weights = {t.name: t for t in graph.initializer}
    fixed = _fixed_scales(model, weights, samples) if samples else {}
    quantised: dict[str, str] = {}  # activation → its prefix, shared by q, k and v projections
    nodes: list[onnx.NodeProto] = []
    dropped: set[str] = set()
    added = _constants()
    for node in graph.node:
        weight = _weight(node, weights)
        if weight is not None:
            x = node.input[0]
            fresh = x not in quantised
            q = quantised.setdefault(x, f"{x}_q8")
            if x in fixed:
                nodes += _fixed_quantise(x, q, *fixed[x], added) if fresh else []
                nodes.append(_fixed_matmul(q, weight, node, added))
            else:
                nodes += (_quantise_rows if node.op_type == "Gemm" else _quantise_activation)(x, q) if fresh else []
                nodes += _integer_matmul(q, weight, node, added)
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
    graph.initializer.extend(kept + [t for t in added if t.name in still_used])
    if all(opset.domain != _DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _weight(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> onnx.TensorProto | None:
    """The constant float weight of a product that can be quantised."""
    if node.op_type not in ("MatMul", "Gemm"):
        return None
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = not given.get("transA") and given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0
    weight = weights.get(node.input[1])
    return weight if plain and _is_table(weight) else None


def _fixed_scales(
    model: onnx.ModelProto, weights: dict[str, onnx.TensorProto], samples: Sequence[Feed]
) -> dict[str, tuple[np.float32, np.uint8]]:
    """Scale and zero point of each activation that meets a weight, from its values on the samples."""
    names = list(dict.fromkeys(node.input[0] for node in model.graph.node if _weight(node, weights) is not None))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {output.name for output in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    seen: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in names}
    share = max(KEPT // len(samples), 1)
    for feed in samples:
        for name, values in zip(names, session.run(names, dict(feed)), strict=True):
            flat = values.ravel()
            ends = [flat.min(), flat.max()]  # kept whatever is drawn
            drawn = flat if len(flat) <= share else flat[rng.integers(0, len(flat), share)]
            seen[name].append(np.concatenate([drawn, ends]).astype(np.float32))
    return {name: best_scale(np.concatenate(values)) for name, values in seen.items()}


def best_scale(values: npt.NDArray[np.float32]) -> tuple[np.float32, np.uint8]:
    """The scale and zero point of uint8 that lose the least of `values`, by squared error; 0 stays 0."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    best = (np.inf, np.float32(_TINY), np.uint8(128))
    for clipped in CLIPPED:
        # A range on both sides of 0 is clipped on both; GELU's short negative one need not be.
        for bottom in dict.fromkeys((low * clipped, low)):
            scale = max((high * clipped - bottom) / 255, _TINY)
            zero = round(-bottom / scale)
            kept = (np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale
            best = min(best, (float(np.square(kept - values).mean()), np.float32(scale), np.uint8(zero)))
    return best[1:]


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


def _quantise_rows(x: str, q: str) -> list[onnx.NodeProto]:
    """The same for an activation of rows [n, k], where one `QuantizeLinear` does the last four steps."""
    return [
        *_quantise_activation(x, q)[:4],
        helper.make_node("Squeeze", [f"{q}_scale", "q8_last"], [f"{q}_flat"]),
        helper.make_node("Shape", [f"{q}_flat"], [f"{q}_rows"]),
        helper.make_node("Expand", ["q8_zero", f"{q}_rows"], [f"{q}_zeros"]),
        helper.make_node("QuantizeLinear", [x, f"{q}_flat", f"{q}_zeros"], [q], axis=0),
    ]


def _fixed_quantise(x: str, q: str, scale: np.float32, zero: np.uint8, added: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
    """The node that gives `{q}` uint8 for the activation `x`; its scale and zero point join `added`."""
    added += [numpy_helper.from_array(np.array(scale), f"{q}_scale"), numpy_helper.from_array(np.array(zero), f"{q}_zero")]
    return [helper.make_node("QuantizeLinear", [x, f"{q}_scale", f"{q}_zero"], [q])]


def _fixed_matmul(q: str, weight: onnx.TensorProto, node: onnx.NodeProto, added: list[onnx.TensorProto]) -> onnx.NodeProto:
    """The node for y = q · W₈ rescaled, with a Gemm's bias."""
    int8, scale = _int8_weight(weight, node, added)
    bias = ["", node.input[2]] if len(node.input) > 2 else []
    return helper.make_node(
        "MatMulIntegerToFloat",
        [q, int8, f"{q}_scale", scale, f"{q}_zero", *bias],
        [node.output[0]],
        domain=_DOMAIN,
    )


def _int8_weight(weight: onnx.TensorProto, node: onnx.NodeProto, added: list[onnx.TensorProto]) -> tuple[str, str]:
    """Names of a product's int8 weight [k, n] and of its per-column scale; both join `added` once."""
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    int8, scale = f"{weight.name}_q8", f"{weight.name}_q8_scale"
    if int8 not in {t.name for t in added}:
        array = numpy_helper.to_array(weight).T if turned else numpy_helper.to_array(weight)
        column = np.maximum(np.abs(array).max(axis=0), _TINY) / 127
        added.append(numpy_helper.from_array(np.round(array / column).astype(np.int8), int8))
        added.append(numpy_helper.from_array(column.astype(np.float32), scale))
    return int8, scale


def _integer_matmul(
    q: str, weight: onnx.TensorProto, node: onnx.NodeProto, added: list[onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """Nodes for y = q · W₈ rescaled, and a Gemm's bias."""
    y, bias = node.output[0], node.input[2] if len(node.input) > 2 else ""
    int8, scale = _int8_weight(weight, node, added)
    return [
        helper.make_node("MatMulIntegerToFloat", [q, int8, "q8_one", scale, "q8_zero"], [f"{y}_column"], domain=_DOMAIN),
        helper.make_node("Mul", [f"{y}_column", f"{q}_scale"], [f"{y}_product" if bias else y]),
        *([helper.make_node("Add", [f"{y}_product", bias], [y])] if bias else []),
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
