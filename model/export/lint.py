"""Check an ONNX file against the rules of Ascend's converter ATC before ATC runs.

Sources: CANN's ATC guide and its ONNX operator specification (5.0.4 to 9.1). Where versions differ, the strictest rule
is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.common.errors import UserError, first_line
from model.export.onnx_file import import_onnx, load_onnx, shape_of
from model.export.operator_limits import operator_limits
from model.export.tensor_names import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    import onnx

OPSET = 11
MAX_IR_VERSION = 7  # of ONNX 1.8, which the oldest documented ATC reads
MAX_RANK = 5  # in the published conversion of this network
OPERATORS = (
    *("Conv", "LeakyRelu", "MaxPool", "ReduceMax", "ReduceMean", "Reshape", "Transpose"),
    *("Unsqueeze", "Concat", "MatMul", "Add", "Mul", "Constant"),
)
_STATIC_SHAPES = "export static shapes"
_REEXPORT = "export with torch.onnx.export(dynamo=False, opset_version=11)"


def require_suitable(path: Path, failure: str) -> None:
    """Raise UserError that begins with `failure` if `lint_onnx` finds a problem in the model at `path`."""
    problems = lint_onnx(path)
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise UserError(f"{failure}: {problems[0]}{more}")


def lint_onnx(model: onnx.ModelProto | Path | str) -> list[str]:
    """Return one line per problem, each with a remedy; an empty list if ATC should accept the model.

    Raises:
        UserError: `model` is a path that does not hold an ONNX model.
    """
    onnx = import_onnx()
    if isinstance(model, (str, Path)):
        model = load_onnx(model)
    problems = [*_versions(model), *_nodes(model), *_node_names(model)]
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    problems += _interface(onnx, inputs, INPUT_NAME, "input")
    problems += _interface(onnx, model.graph.output, OUTPUT_NAME, "output")
    problems += _weights(onnx, model)
    return problems + list(_graph(onnx, model))


def _versions(model: onnx.ModelProto) -> Iterator[str]:
    imports = [(entry.domain, entry.version) for entry in model.opset_import]
    if len(imports) != 1:
        listed = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in imports) or "none"
        yield f"{len(imports)} opset imports ({listed}), but ATC accepts exactly one (E16005); {_REEXPORT}"
    for domain, version in imports:
        if domain in ("", "ai.onnx") and version != OPSET:
            yield f"opset {version}, but only {OPSET} means the same in every version of ATC; {_REEXPORT}"
    if not 3 <= model.ir_version <= MAX_IR_VERSION:
        yield f"IR version {model.ir_version}, but the oldest ATC reads 3 to {MAX_IR_VERSION}; set ir_version to 6"


def _nodes(model: onnx.ModelProto) -> Iterator[str]:
    """Operators, and inputs that must be attributes or constants."""
    graph = model.graph
    constants = {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    constants.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        kind, name = node.op_type, _name(node)
        if node.domain not in ("", "ai.onnx") or kind not in OPERATORS:
            full = f"{node.domain}::{kind}" if node.domain else kind
            remedy = _STATIC_SHAPES if kind in ("Shape", "Gather", "Slice") else "rewrite the network"
            yield f"operator {full} of node {name} is not among those that ATC is known to convert; {remedy}"
        if kind == "MaxPool" and len(node.output) > 1:
            yield f"MaxPool node {name} also returns indices, which ATC does not support; omit return_indices"
        if kind in ("ReduceMax", "ReduceMean", "Unsqueeze"):
            yield from _axes(node)
        if kind == "Reshape" and len(node.input) > 1 and node.input[1] not in constants:
            yield f"Reshape node {name} computes its shape at run time; {_STATIC_SHAPES}"
    if model.functions:
        yield f"{len(model.functions)} functions in the model, which ATC does not read; {_REEXPORT}"


def _axes(node) -> Iterator[str]:
    """Missing axes mean all axes in one version of ATC and none in another, and neither reports an error."""
    axes = [list(attribute.ints) for attribute in node.attribute if attribute.name == "axes"]
    if len(node.input) > 1:
        yield f"{node.op_type} node {_name(node)} has axes as input, which some versions of ATC ignore; {_REEXPORT}"
    elif not axes or not axes[0]:
        yield f"{node.op_type} node {_name(node)} has no axes; name them: max(dim) instead of max()"


def _node_names(model: onnx.ModelProto) -> Iterator[str]:
    """ATC identifies operators by name. Nodes without a name get one from ATC."""
    seen: set[str] = set()
    for node in model.graph.node:
        if node.name and node.name in seen:
            yield f"two nodes have the name {node.name}, but ATC identifies nodes by name; {_REEXPORT}"
        seen.add(node.name)


def _interface(onnx, values, expected: str, kind: str) -> Iterator[str]:
    found = [value.name for value in values]
    if found != [expected]:
        names = ", ".join(found) or "(none)"
        yield f"the {kind}s have the names {names}, but scripts expect {expected}; give {kind}_names to the export"
    for value in values:
        tensor = value.type.tensor_type
        if tensor.elem_type != onnx.TensorProto.FLOAT:
            dtype = onnx.TensorProto.DataType.Name(tensor.elem_type)
            yield f"{kind} {value.name} is {dtype}, but must be FLOAT; export the network in float32"
        shape = shape_of(value)
        if not shape or not _is_static(shape):
            yield f"{kind} {value.name} has shape {shape}, but it must be static; export without dynamic_axes"


def _weights(onnx, model: onnx.ModelProto) -> Iterator[str]:
    external = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if model.graph.sparse_initializer:
        yield f"{len(model.graph.sparse_initializer)} sparse weights, which ATC does not read; store them dense"
    if external:
        yield f"{len(external)} weights are in another file (first: {external[0]}); save the model as one file"


def _graph(onnx, model: onnx.ModelProto) -> Iterator[str]:
    """Run onnx's checker and shape inference, then check each node against the shapes of its tensors."""
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, UnicodeDecodeError) as error:
        # The checker raises UnicodeDecodeError for names that are not UTF-8.
        yield f"not a valid ONNX graph: {first_line(error)}; {_REEXPORT}"
        return
    shapes, dtypes = _tensors(model, inferred)
    static = {name for name, shape in shapes.items() if _is_static(shape)}
    for node in model.graph.node:
        of_node = f"of {node.op_type} node {_name(node)}"
        for name in node.output:
            if name not in static:
                yield f"tensor {name} {of_node} has no static shape; fix its sizes"
            elif len(shapes[name]) > MAX_RANK:
                yield (
                    f"tensor {name} {of_node} has {len(shapes[name])} axes, but at most {MAX_RANK} are known to "
                    "convert; flatten axes before it"
                )
        if static.issuperset(node.input):
            for problem in operator_limits(node, shapes):
                yield f"{node.op_type} node {_name(node)} {problem}"
        yield from _dtypes(onnx, node, dtypes)


def _tensors(model: onnx.ModelProto, inferred: onnx.ModelProto) -> tuple[dict[str, list], dict[str, int]]:
    """Return shape and element type of every tensor, by name."""
    known = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    shapes = {value.name: shape_of(value) for value in known if value.type.tensor_type.HasField("shape")}
    dtypes = {value.name: value.type.tensor_type.elem_type for value in known}
    for tensor in model.graph.initializer:
        shapes[tensor.name], dtypes[tensor.name] = list(tensor.dims), tensor.data_type
    return shapes, dtypes


def _dtypes(onnx, node, dtypes: dict[str, int]) -> Iterator[str]:
    """All tensors must be FLOAT, except the shape input of Reshape, which must be INT64."""
    types = onnx.TensorProto
    for position, name in enumerate(node.input):
        wanted = types.INT64 if (node.op_type, position) == ("Reshape", 1) else types.FLOAT
        if dtypes.get(name, wanted) != wanted:
            found, expected = map(types.DataType.Name, (dtypes[name], wanted))
            reads = f"{node.op_type} node {_name(node)} reads {name}"
            yield f"{reads}, which is {found}, not {expected}; export the network in float32"


def _is_static(shape: Sequence[int | str]) -> bool:
    return all(isinstance(size, int) and size > 0 for size in shape)


def _name(node) -> str:
    return node.name or (node.output[0] if node.output else "(unnamed)")
