"""What Ascend's converter ATC accepts of an ONNX file, checked before ATC is there to complain.

Facts: CANN's ATC guide and the ONNX operator specification (5.0.4 to 9.1); the narrowest counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.export.names import INPUT_NAME, OUTPUT_NAME
from model.export.onnx_file import first_line, import_onnx, load_onnx
from model.export.operator_limits import operator_limits

if TYPE_CHECKING:
    import onnx

OPSET = 11
NEWEST_IR_VERSION = 7  # of ONNX 1.8, which the oldest documented ATC reads
HIGHEST_RANK = 5  # what the maker's own conversion of this network went up to
OPERATORS = frozenset(
    (
        *("Conv", "LeakyRelu", "MaxPool", "ReduceMax", "ReduceMean", "Reshape", "Transpose"),
        *("Unsqueeze", "Concat", "MatMul", "Add", "Mul", "Constant"),
    )
)
_REEXPORT = "export with torch.onnx.export(dynamo=False, opset_version=11)"


def lint_onnx(
    model: onnx.ModelProto | Path | str,
    input_names: Sequence[str] = (INPUT_NAME,),
    output_names: Sequence[str] = (OUTPUT_NAME,),
) -> list[str]:
    """One line a problem, with its remedy; an empty list when ATC should take the model.

    Raises UserError when `model` is a path that holds no ONNX model.
    """
    onnx = import_onnx()
    if isinstance(model, (str, Path)):
        model = load_onnx(model)
    problems = [*_versions(model), *_operators(model), *_axes(model), *_constant_shapes(model), *_names(model)]
    problems += _interface(onnx, model.graph.input, input_names, "input", _initializers(model))
    problems += _interface(onnx, model.graph.output, output_names, "output", set())
    problems += _external_data(onnx, model)
    return problems + list(_graph(onnx, model))


def _versions(model: onnx.ModelProto) -> Iterator[str]:
    imports = [(entry.domain, entry.version) for entry in model.opset_import]
    if len(imports) != 1:
        listed = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in imports) or "none"
        yield f"{len(imports)} opset imports ({listed}), ATC admits exactly one (E16005); {_REEXPORT}"
    for domain, version in imports:
        if domain in ("", "ai.onnx") and version != OPSET:
            yield f"opset {version}, only {OPSET} means the same in every ATC; {_REEXPORT}"
    if not 3 <= model.ir_version <= NEWEST_IR_VERSION:
        yield (
            f"IR version {model.ir_version}, the oldest ATC reads 3 to {NEWEST_IR_VERSION}; "
            f"set ir_version to 6, the one of opset {OPSET}"
        )


def _operators(model: onnx.ModelProto) -> Iterator[str]:
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            hint = "export static shapes" if node.op_type in ("Shape", "Gather", "Slice") else "rewrite the network"
            yield f"operator {name} of node {_name(node)} is none of those ATC is known to take here; {hint}"
        if node.op_type == "MaxPool" and len(node.output) > 1:
            yield f"MaxPool node {_name(node)} also gives indices, ATC cannot; leave return_indices out"
    if model.functions:
        yield f"{len(model.functions)} functions in the model, ATC reads none; {_REEXPORT}"


def _axes(model: onnx.ModelProto) -> Iterator[str]:
    """Lost or absent axes reduce over everything in one ATC and over nothing in another, without an error."""
    for node in model.graph.node:
        if node.op_type not in ("ReduceMax", "ReduceMean", "Unsqueeze"):
            continue
        axes = [list(attribute.ints) for attribute in node.attribute if attribute.name == "axes"]
        if len(node.input) > 1:
            yield f"{node.op_type} node {_name(node)} has axes as input, which some ATC ignore; {_REEXPORT}"
        elif not axes or not axes[0]:
            yield f"{node.op_type} node {_name(node)} has no axes; name them: max(dim) instead of max()"


def _constant_shapes(model: onnx.ModelProto) -> Iterator[str]:
    constant = _initializers(model) | {
        name for node in model.graph.node if node.op_type == "Constant" for name in node.output
    }
    for node in model.graph.node:
        if node.op_type == "Reshape" and len(node.input) > 1 and node.input[1] not in constant:
            yield f"Reshape node {_name(node)} computes its shape while running; export static shapes"


def _names(model: onnx.ModelProto) -> Iterator[str]:
    """ATC tells operators apart by their names; without one they get one from it."""
    seen: set[str] = set()
    for node in model.graph.node:
        if node.name and node.name in seen:
            yield f"two nodes are called {node.name}, ATC tells them apart by name; {_REEXPORT}"
        seen.add(node.name)


def _interface(onnx, values, names: Sequence[str], kind: str, initializers: set[str]) -> Iterator[str]:
    values = [value for value in values if value.name not in initializers]
    found = [value.name for value in values]
    if found != list(names):
        yield (
            f"the {kind}s are called {', '.join(found) or 'nothing'}, scripts expect {', '.join(names)}; "
            f"give {kind}_names to the export"
        )
    for value in values:
        kind_of_value = value.type.tensor_type
        if kind_of_value.elem_type != onnx.TensorProto.FLOAT:
            dtype = onnx.TensorProto.DataType.Name(kind_of_value.elem_type)
            yield f"{kind} {value.name} is {dtype}, must be FLOAT; export the network in float32"
        shape = [_dimension(dimension) for dimension in kind_of_value.shape.dim]
        if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
            yield f"{kind} {value.name} has shape {shape}, must be static; export without dynamic_axes"


def _external_data(onnx, model: onnx.ModelProto) -> Iterator[str]:
    outside = [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if model.graph.sparse_initializer:
        yield f"{len(model.graph.sparse_initializer)} sparse weights, ATC reads none; store them whole"
    if outside:
        yield f"{len(outside)} weights lie in another file (first: {outside[0]}); save the model as one file"


def _graph(onnx, model: onnx.ModelProto) -> Iterator[str]:
    """What onnx's own checker says, and the shape of every tensor in between."""
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, UnicodeDecodeError) as error:
        # The last is what the checker makes of names that are no text.
        yield f"no valid ONNX graph: {first_line(error)}; {_REEXPORT}"
        return
    shapes, dtypes = _tensors(onnx, model, inferred)
    static = {name for name, shape in shapes.items() if all(isinstance(size, int) and size > 0 for size in shape)}
    for node in model.graph.node:
        for name in node.output:
            shape = shapes.get(name, [])
            if name not in static:
                yield f"tensor {name} of {node.op_type} node {_name(node)} has no static shape; fix its sizes"
            elif len(shape) > HIGHEST_RANK:
                yield (
                    f"tensor {name} of {node.op_type} node {_name(node)} has {len(shape)} axes, at most "
                    f"{HIGHEST_RANK} are known to convert; flatten axes before it"
                )
        if static.issuperset(node.input):
            for problem in operator_limits(node, shapes):
                yield f"{node.op_type} node {_name(node)} {problem}"
        yield from _dtypes(onnx, node, dtypes)


def _tensors(onnx, model: onnx.ModelProto, inferred: onnx.ModelProto) -> tuple[dict[str, list], dict[str, int]]:
    """Shape and element type of every tensor, by its name."""
    known = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    shapes = {
        value.name: [_dimension(dimension) for dimension in value.type.tensor_type.shape.dim]
        for value in known
        if value.type.tensor_type.HasField("shape")
    }
    dtypes = {value.name: value.type.tensor_type.elem_type for value in known}
    for tensor in model.graph.initializer:
        shapes[tensor.name], dtypes[tensor.name] = list(tensor.dims), tensor.data_type
    return shapes, dtypes


def _dtypes(onnx, node, dtypes: dict[str, int]) -> Iterator[str]:
    """All arithmetic is FLOAT; INT64 is the type of the shapes that Reshape is given, and of nothing else."""
    types = onnx.TensorProto
    for position, name in enumerate(node.input):
        wanted = types.INT64 if (node.op_type, position) == ("Reshape", 1) else types.FLOAT
        if dtypes.get(name, wanted) != wanted:
            found = types.DataType.Name(dtypes[name])
            yield (
                f"{node.op_type} node {_name(node)} reads {name}, which is {found}, not "
                f"{types.DataType.Name(wanted)}; export the network in float32"
            )


def _initializers(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def _dimension(dimension) -> int | str:
    return dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or "?"


def _name(node) -> str:
    return node.name or (node.output[0] if node.output else "without a name")
