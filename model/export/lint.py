"""Check an ONNX file against the rules of Ascend's converter ATC before ATC runs.

Sources: CANN's ATC guide, its ONNX operator specification (5.0.4 to 9.1) and the source of its ONNX plug-ins. Where
versions differ, the strictest rule is used.

A problem is a failure or a risk. A failure makes every version of ATC reject the file, or makes the om unusable. A risk
makes some versions of ATC reject the file, or makes the om slow. Exports of this project must have no problem. Files of
other programs may have risks, but no failures.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, checker, shape_inference

from model.common.errors import first_line
from model.export.onnx_file import INPUT_NAME, OUTPUT_NAME, inputs_of, load_onnx, shape_of

OPSET = 11
MAX_IR_VERSION = 7  # the IR version of ONNX 1.8, which the oldest documented ATC reads
# Tensors of the published conversion have at most 5 axes. Transpose and reductions accept up to 8, MatMul up to 6.
MAX_RANK = 5
MAX_IMAGE_RANK = 4  # for inputs of Conv and MaxPool
MAX_POOLED_WIDTH = 4096
# Poolings with larger windows or strides run on the AI CPU, which is slow.
MAX_WINDOW_SIDE, MAX_WINDOW_AREA, MAX_STRIDE = 255, 255, 63
OPERATORS = (
    *("Conv", "LeakyRelu", "MaxPool", "ReduceMax", "ReduceMean", "Reshape", "Transpose"),
    *("Unsqueeze", "Concat", "MatMul", "Add", "Mul", "Constant"),
    *("ReduceL2", "Div"),  # only in networks with `unit_strips`
)
# Operators that compute shapes from a symbolic batch size. If the batch size is given, ATC replaces them by constants.
SHAPE_OPERATORS = ("Shape", "Gather", "Slice")
_STATIC_SHAPES = "export static shapes"
_REEXPORT = "export with torch.onnx.export(dynamo=False, opset_version=11)"


def in_short(problems: Sequence[str]) -> str:
    """Return the first problem and the number of the others."""
    return problems[0] + (f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else "")


def lint_onnx(model: onnx.ModelProto | Path | str) -> list[str]:
    """Return one line per problem, each with a remedy; an empty list if ATC should accept the model.

    Raises:
        UserError: `model` is the path of a file that is not an ONNX model.
    """
    if isinstance(model, (str, Path)):
        model = load_onnx(model)
    failures, risks = find_problems(model)
    return [*risks, *failures]


def find_problems(model: onnx.ModelProto, symbolic: bool = False) -> tuple[list[str], list[str]]:
    """Return the failures and the risks of `model`, one line per problem.

    Args:
        symbolic: the batch size was symbolic in the file, so the model may contain operators that compute shapes.
    """
    failures, risks = [*_failures(model)], [*_risks(model, symbolic)]
    try:
        checker.check_model(model)
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=symbolic)
        risks += _tensors(model, inferred, symbolic)
    except (checker.ValidationError, shape_inference.InferenceError, UnicodeDecodeError) as error:
        # The checker raises UnicodeDecodeError for names that are not UTF-8.
        failures.append(f"not a valid ONNX graph: {first_line(error)}; {_REEXPORT}")
    return failures, risks


def _failures(model: onnx.ModelProto) -> Iterator[str]:
    """Yield the problems that make every version of ATC reject the model, or make the om unusable for this project."""
    if len(model.opset_import) != 1:
        imports = [f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import]
        listed = ", ".join(imports) or "none"
        yield f"{len(imports)} opset imports ({listed}), but ATC accepts exactly one (E16005); {_REEXPORT}"
    inputs = inputs_of(model)
    if len(inputs) != 1:
        yield f"{_names(inputs, 'input')}, but it must have exactly one; export the network alone"
    for value in inputs:
        yield from _type_and_shape(value, "input", f", or give --input_shape={value.name}:N,100,64,44 to atc")
    if model.graph.sparse_initializer:
        count = len(model.graph.sparse_initializer)
        yield f"{count} sparse weights, which ATC does not read; store them as dense tensors"
    external = [t.name for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    if external:
        yield f"{len(external)} weights are in another file (first: {external[0]}); save the model as one file"
    if model.functions:
        yield f"{len(model.functions)} functions in the model, which ATC does not read; {_REEXPORT}"


def _risks(model: onnx.ModelProto, symbolic: bool) -> Iterator[str]:
    """Yield the problems that make some versions of ATC reject the model, or that make the om slow."""
    yield from _versions(model)
    yield from _nodes(model, symbolic)
    ends = (inputs_of(model), "input", INPUT_NAME), (model.graph.output, "output", OUTPUT_NAME)
    for values, kind, expected in ends:
        if [value.name for value in values] != [expected]:
            yield f"{_names(values, kind)}, but scripts expect {expected}; give {kind}_names to the export"
    for value in model.graph.output:
        yield from _type_and_shape(value, "output", may_be_symbolic=symbolic)


def _type_and_shape(value, kind: str, remedy: str = "", may_be_symbolic: bool = False) -> Iterator[str]:
    """Check that an input or output is float32 and has a static shape."""
    dtype, shape = value.type.tensor_type.elem_type, shape_of(value)
    if dtype != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(dtype)
        yield f"{kind} {value.name} is {found}, but must be FLOAT; export the network in float32"
    if not may_be_symbolic and (not shape or not is_static(shape)):
        yield f"{kind} {value.name} has shape {shape}, but it must be static; export without dynamic_axes{remedy}"


def _names(values, kind: str) -> str:
    names = ", ".join(f"{value.name}" for value in values) or "(none)"  # a name that is not UTF-8 is bytes
    return f"the model has the {kind}s {names}"


def _versions(model: onnx.ModelProto) -> Iterator[str]:
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version != OPSET:
            yield f"opset {entry.version}, but only {OPSET} means the same in every version of ATC; {_REEXPORT}"
    if not 3 <= model.ir_version <= MAX_IR_VERSION:
        yield f"IR version {model.ir_version}, but the oldest ATC reads 3 to {MAX_IR_VERSION}; set ir_version to 6"


def _nodes(model: onnx.ModelProto, symbolic: bool) -> Iterator[str]:
    """Check operators, inputs that must be attributes or constants, and the names by which ATC identifies nodes."""
    graph, seen = model.graph, set()
    constants = {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    constants.update(tensor.name for tensor in graph.initializer)
    known = (*OPERATORS, *SHAPE_OPERATORS) if symbolic else OPERATORS
    for node in graph.node:
        kind, name = node.op_type, _name(node)
        if node.domain not in ("", "ai.onnx") or kind not in known:
            full = f"{node.domain}::{kind}" if node.domain else kind
            remedy = _STATIC_SHAPES if kind in SHAPE_OPERATORS else "rewrite the network"
            yield f"operator {full} of node {name} is not among the operators that ATC is known to convert; {remedy}"
        if kind == "MaxPool" and len(node.output) > 1:
            yield f"MaxPool node {name} also returns indices, which ATC does not support; omit return_indices"
        if kind in ("ReduceMax", "ReduceMean", "ReduceL2", "Unsqueeze"):
            # Without axes, one version of ATC reduces all axes and another version none. Both report no error.
            if len(node.input) > 1:
                yield f"{kind} node {name} has axes as input, which some versions of ATC ignore; {_REEXPORT}"
            elif not any(attribute.name == "axes" and attribute.ints for attribute in node.attribute):
                yield f"{kind} node {name} has no axes, which ATC's versions treat differently; use max(dim), not max()"
        if kind == "Reshape" and not symbolic and len(node.input) > 1 and node.input[1] not in constants:
            yield f"Reshape node {name} computes its shape at run time, but it must be constant; {_STATIC_SHAPES}"
        if node.name and node.name in seen:  # nodes without a name get a unique name from ATC
            yield f"two nodes have the name {node.name}, but ATC identifies nodes by name; {_REEXPORT}"
        seen.add(node.name)


def _tensors(model: onnx.ModelProto, inferred: onnx.ModelProto, symbolic: bool) -> Iterator[str]:
    """Check the shapes and types of the tensors of each node."""
    known = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    shapes = {value.name: shape_of(value) for value in known if value.type.tensor_type.HasField("shape")}
    dtypes = {value.name: value.type.tensor_type.elem_type for value in known}
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    dtypes |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    static = {name for name, shape in shapes.items() if is_static(shape)}
    for node in model.graph.node:
        named = f"{node.op_type} node {_name(node)}"
        for name in node.output:
            if name in static and len(shapes[name]) > MAX_RANK:
                yield (
                    f"tensor {name} of {named} has {len(shapes[name])} axes, but at most {MAX_RANK} are known to "
                    "convert; flatten axes before it"
                )
            if name not in static and not symbolic:
                yield f"tensor {name} of {named} has no static shape; fix its sizes"
        if static.issuperset(node.input):
            yield from (f"{named} {problem}" for problem in operator_limits(node, shapes))
        for position, name in enumerate(node.input):
            # Inputs must be FLOAT, except the shape for Reshape and, with a symbolic batch size, computed shapes.
            wanted = TensorProto.INT64 if (node.op_type, position) == ("Reshape", 1) else TensorProto.FLOAT
            if dtypes.get(name, wanted) not in ((wanted, TensorProto.INT64) if symbolic else (wanted,)):
                found, expected = map(TensorProto.DataType.Name, (dtypes[name], wanted))
                yield f"{named} reads {name}, which is {found}, not {expected}; export the network in float32"


def operator_limits(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield one message per limit that `node` exceeds. `shapes` maps the names of its inputs to their static shapes."""
    attributes = {each.name: list(each.ints) or each.s or each.i for each in node.attribute}
    shape = shapes[node.input[0]] if node.input else ()
    if node.op_type in ("Conv", "MaxPool") and len(shape) > MAX_IMAGE_RANK:
        most = f"at most {MAX_IMAGE_RANK} are known to convert"
        yield f"has an input of {len(shape)} axes, but {most}; flatten axes before it"
    if node.op_type == "MaxPool":
        yield from _pooling_limits({name: value for name, value in attributes.items() if value}, shape)
    elif node.op_type in ("ReduceMax", "ReduceMean", "ReduceL2"):
        axes = [axis % len(shape) if -len(shape) <= axis < len(shape) else None for axis in attributes.get("axes", ())]
        if None in axes or len(set(axes)) < len(axes):
            found = f"reduces the axes {list(attributes['axes'])} of a tensor with {len(shape)} axes"
            yield f"{found}; name each axis once, and only axes that exist"


def _pooling_limits(attributes: Mapping[str, Any], shape: Sequence[int]) -> Iterator[str]:
    """Yield one message per limit of MaxPool that is exceeded. `attributes` has no attributes that are 0 or empty."""
    window, strides = attributes.get("kernel_shape", []), attributes.get("strides", [1])
    dilations, auto_pad = attributes.get("dilations", [1]), attributes.get("auto_pad", b"NOTSET")
    if len(shape) != 4 or len(window) != 2:
        found = f"pools {len(window)} axes of a tensor with {len(shape)} axes"
        yield f"{found}, but must pool height and width of a tensor with 4 axes; reshape before it"
        return
    if not 1 <= shape[3] <= MAX_POOLED_WIDTH:
        yield f"pools a width of {shape[3]}, but at most {MAX_POOLED_WIDTH} is supported; pool narrower maps"
    if max(window) > MAX_WINDOW_SIDE or math.prod(window) > MAX_WINDOW_AREA:
        fast = f"windows of at most {MAX_WINDOW_SIDE} per side and {MAX_WINDOW_AREA} in area are fast"
        yield f"has a window of {window}, but only {fast}; pool in several steps"
    if max(strides) > MAX_STRIDE:
        yield f"has strides {strides}, but only strides of at most {MAX_STRIDE} are fast; pool in several steps"
    if set(dilations) != {1}:
        yield f"has dilations {dilations}, which ATC does not support; remove them"
    if "storage_order" in attributes:
        yield f"has storage_order {attributes['storage_order']}, but ATC accepts only 0; remove storage_order"
    if auto_pad != b"NOTSET" and any(attributes.get("pads", ())):
        yield "has both auto_pad and pads, which exclude each other in ATC; remove auto_pad"
    if auto_pad == b"VALID" and "ceil_mode" in attributes:
        yield "has ceil_mode with auto_pad VALID, which ATC does not support; remove auto_pad"


def is_static(shape: Sequence[int | str]) -> bool:
    return all(isinstance(size, int) and size > 0 for size in shape)


def _name(node) -> str:
    return node.name or (node.output[0] if node.output else "(unnamed)")
