"""ONNX files: the names of inputs and outputs, and reading them from any source, with errors in one line."""

from pathlib import Path
from typing import TYPE_CHECKING

from model.common.errors import UserError, first_line

if TYPE_CHECKING:
    import onnx

# Inputs and outputs of exported models.
INPUT_NAME = "image_seq"  # static models: float32 pixels from 0 to 1
SILS_NAME = "sils"  # variable-length models: uint8 pixels as stored
OUTPUT_NAME = "feature"
POOLED = (2, 4, 6)  # set layers whose maps are set-pooled
# A variable-length model takes long sequences in chunks. With a layer number from POOLED appended, these name the
# maximum over all earlier chunks (input) and the maximum including this chunk (output).
EARLIER, MAXIMA = "earlier", "maxima"


def load_onnx(path: Path | str) -> "onnx.ModelProto":
    """Read a model without the weights that it keeps in other files. Raise UserError that names `path`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such ONNX file; create it with pth2onnx.py")
    import onnx  # here, because the runtimes of Ascend import this module, and they run without it

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError: its module depends on the version of protobuf
        raise UserError(f"{path}: is not an ONNX model ({first_line(error)}); export it again") from error
    if not model.graph.node:
        raise UserError(f"{path}: is not an ONNX model, or has no operators; export it again")
    return model


def self_contained(path: Path) -> bytes:
    """Return the bytes of an ONNX file that holds all its weights.

    Raises:
        UserError: `path` is not an ONNX file, or keeps weights in another file. Such a reference could make ONNX
            Runtime read any file of this machine as weights.
    """
    outside = _external_files(load_onnx(path))
    if outside:
        raise UserError(f"{path}: keeps weights in another file ({outside[0][:200]}); save the model as one file")
    return path.read_bytes()


def _external_files(message) -> list[str]:
    """Names of the files that hold values of tensors anywhere inside `message`, a part of an ONNX model."""
    found = []
    if message.DESCRIPTOR.name == "TensorProto":
        if message.data_location == message.EXTERNAL or message.external_data:
            found.append(next((entry.value for entry in message.external_data if entry.key == "location"), "?"))
        return found
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in (value,) if hasattr(value, "DESCRIPTOR") else value:  # a message, or several
                found += _external_files(each)
    return found


def inputs_of(model: "onnx.ModelProto") -> list:
    """Return the inputs of the graph without those that are names of weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def shape_of(value) -> list[int | str]:
    """Return the sizes of a ValueInfoProto; an unknown size is its symbolic name, or "?"."""
    dimensions = value.type.tensor_type.shape.dim
    return [each.dim_value if each.HasField("dim_value") else each.dim_param or "?" for each in dimensions]


def with_input_shape(model: "onnx.ModelProto", shape: list[int]) -> "onnx.ModelProto":
    """Return a copy whose first input has the shape `shape`, without the inner shapes, which depend on it."""
    fixed = type(model)()
    fixed.CopyFrom(model)
    for dimension, size in zip(inputs_of(fixed)[0].type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    fixed.graph.ClearField("value_info")
    return fixed
