"""Whether TensorRT can be expected to build a graph: judged by its published operator list, without TensorRT.

The list is `triton/engines/operators.json`. Beyond it, a graph must be sound by ONNX's own checker and strict shape inference,
every tensor must have a rank and a type that TensorRT computes with, no shape may depend on the data (such an engine cannot
become a CUDA graph), and its inputs must be those of its optimisation profile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, defs, shape_inference

TYPES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.INT8: "INT8",
    TensorProto.BOOL: "BOOL",
}
DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Compress", "Unique", "Loop", "If", "Scan"}
JUDGED_BY = {"Where": 1}  # place of the input whose type the list means; the first where not said
JUDGED_BY_OUTPUT = {"Constant", "ConstantOfShape"}
MUST_BE_CONSTANT = re.compile(r"`(\w+)`[\w ]* must be (?:an initializer|a constant tensor|a build-time constant)")


def check(graph: Path, engines: Path) -> list[str]:
    """What stands in the way of a plan, a sentence each; empty when nothing does.

    Args:
        graph: `<engine>.onnx` or `<engine>.int8.onnx`.
        engines: the folder with operators.json and profiles.json.
    """
    operators = json.loads((engines / "operators.json").read_text(encoding="utf-8"))
    profiles = json.loads((engines / "profiles.json").read_text(encoding="utf-8"))
    model = onnx.load(graph)
    if foreign := sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"}):
        return [f"operators of {', '.join(foreign)}, which TensorRT does not have"]
    try:
        onnx.checker.check_model(model, full_check=True)
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as exc:
        return [f"not a sound graph: {exc}"]
    engine = graph.name.split(".")[0]
    types = tensor_types(inferred.graph)
    return [
        *_opset(model, operators["opsets"]),
        *_tensors(inferred.graph),
        *(problem for node in model.graph.node for problem in _operator(node, operators, types, _constants(model.graph))),
        *_zero_points(model.graph),
        *_profile(model.graph, profiles.get(engine)),
    ]


def tensor_types(graph: onnx.GraphProto) -> dict[str, str]:
    """Name → type in the list's words (or ONNX's own, where TensorRT has none) of every tensor."""
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: TYPES.get(kind) or TensorProto.DataType.Name(kind) for name, kind in found.items()}


def _constants(graph: onnx.GraphProto) -> set[str]:
    return {t.name for t in graph.initializer} | {n.output[0] for n in graph.node if n.op_type == "Constant"}


def _opset(model: onnx.ModelProto, opsets: list[int]) -> Iterator[str]:
    low, high = opsets
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and not low <= opset.version <= high:
            yield f"opset {opset.version}: TensorRT reads {low} to {high}"


def _tensors(graph: onnx.GraphProto) -> Iterator[str]:
    """Strict inference leaves a tensor out, or without a shape, where its rank is not known."""
    known = {v.name for v in (*graph.input, *graph.value_info, *graph.output) if v.type.tensor_type.HasField("shape")}
    known |= {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for name in node.output:
            if name and name not in known:
                yield f"{node.op_type} {node.name}: the rank of its output is not known"
    for name, kind in tensor_types(graph).items():
        if kind not in TYPES.values():
            yield f"{name} is {kind}, which TensorRT does not compute with"


def _operator(node: onnx.NodeProto, operators: dict[str, Any], types: dict[str, str], constants: set[str]) -> Iterator[str]:
    listed = operators["supported"].get(node.op_type)
    what = f"{node.op_type} {node.name}"
    if listed is None:
        yield f"{what}: not supported by TensorRT {operators['tensorrt']}"
        return
    if node.op_type in DATA_DEPENDENT:
        yield f"{what}: its shape depends on the data, so the engine cannot become a CUDA graph"
    judged = node.output[0] if node.op_type in JUDGED_BY_OUTPUT else node.input[JUDGED_BY.get(node.op_type, 0)]
    kind = types.get(judged, "unknown")
    if listed["types"] and kind not in listed["types"]:
        yield f"{what}: {kind}, supported are {', '.join(listed['types'])}"
    if node.op_type == "Cast" and types.get(node.output[0]) not in listed["types"]:
        yield f"{what}: to {types.get(node.output[0])}, supported are {', '.join(listed['types'])}"
    if node.op_type == "LayerNormalization" and len([name for name in node.output if name]) > 1:
        yield f"{what}: {listed['restriction']}"
    if named := MUST_BE_CONSTANT.search(listed.get("restriction", "")):
        inputs = [parameter.name for parameter in defs.get_schema(node.op_type).inputs]
        at = inputs.index(named[1]) if named[1] in inputs else len(node.input)
        if at < len(node.input) and node.input[at] and node.input[at] not in constants:
            yield f"{what}: {listed['restriction']}"


def _zero_points(graph: onnx.GraphProto) -> Iterator[str]:
    """TensorRT's quantisation is symmetric."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = values.get(node.input[2])
            if zero is None or onnx.numpy_helper.to_array(zero).any():
                yield f"{node.op_type} {node.name}: its zero point must be a constant 0"


def _profile(graph: onnx.GraphProto, profile: dict[str, dict[str, list[int]]] | None) -> Iterator[str]:
    if profile is None:
        yield "profiles.json has no profile for it"
        return
    if (names := [value.name for value in graph.input]) != list(profile):
        yield f"inputs are {', '.join(names)}, the profile has {', '.join(profile)}"
        return
    for value in graph.input:
        bounds = profile[value.name]
        axes = zip(value.type.tensor_type.shape.dim, bounds["min"], bounds["opt"], bounds["max"], strict=False)
        if {len(shape) for shape in bounds.values()} != {len(value.type.tensor_type.shape.dim)}:
            yield f"{value.name}: the profile has another rank"
        for axis, (dim, low, usual, high) in enumerate(axes):
            fixed = dim.dim_value
            if not 1 <= low <= usual <= high or (fixed and {low, usual, high} != {fixed}):
                yield f"{value.name}, axis {axis}: the profile's {low}, {usual}, {high} does not fit"
