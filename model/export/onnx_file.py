"""Read ONNX files of any program with one-line errors, and name the inputs and outputs of exported models."""

from pathlib import Path
from typing import TYPE_CHECKING

from model.common.errors import UserError, first_line

if TYPE_CHECKING:
    import onnx

# Names of the inputs and outputs of exported models.
INPUT_NAME = "image_seq"  # static models: float32 pixels from 0 to 1
SILS_NAME = "sils"  # variable-length models: uint8 pixels as stored
OUTPUT_NAME = "feature"
POOLED = (2, 4, 6)  # set layers whose maps are set-pooled
# A variable-length model takes a long sequence in chunks of frames. For each layer number in POOLED, the input
# `earlier<number>` is the set-pooled map of all earlier chunks. The output `maxima<number>` includes the current chunk.
EARLIER, MAXIMA = "earlier", "maxima"


def load_onnx(path: Path | str) -> "onnx.ModelProto":
    """Read a model, but no weights from other files. Raise UserError if `path` is not an ONNX file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such ONNX file; create it with pth2onnx.py")
    import onnx  # not at the top, because Ascend's runtimes use this module on machines without onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError: its module depends on the version of protobuf
        raise UserError(f"{path}: is not an ONNX model ({first_line(error)}); export it again") from error
    if not model.graph.node:
        raise UserError(f"{path}: is not an ONNX model, because it has no operators; export it again")
    return model


def self_contained(path: Path) -> bytes:
    """Return the bytes of an ONNX file that holds all its weights.

    Raises:
        UserError: `path` is not an ONNX file, or keeps weights in another file. A reference to another file could make
            ONNX Runtime read any file of this machine as weights.
    """
    outside = _external_files(load_onnx(path))
    if outside:
        raise UserError(f"{path}: keeps weights in another file ({outside[0][:200]}); save the model as one file")
    return path.read_bytes()


def _external_files(message) -> list[str]:
    """Return the names of other files with tensor values to which `message`, a part of an ONNX model, refers."""
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
    """Return the inputs of the graph, except weights, which may be listed as inputs as well."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def shape_of(value) -> list[int | str]:
    """Return the sizes of a ValueInfoProto; an unknown size is its symbolic name, or "?"."""
    dimensions = value.type.tensor_type.shape.dim
    return [each.dim_value if each.HasField("dim_value") else each.dim_param or "?" for each in dimensions]


def with_input_shape(model: "onnx.ModelProto", shape: list[int]) -> "onnx.ModelProto":
    """Return a copy of `model` whose first input has the given shape. Stored shapes of inner tensors are removed."""
    fixed = type(model)()
    fixed.CopyFrom(model)
    for dimension, size in zip(inputs_of(fixed)[0].type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    fixed.graph.ClearField("value_info")
    return fixed
