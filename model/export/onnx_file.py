"""Reading an ONNX file, which may come from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.common.errors import UserError

if TYPE_CHECKING:
    import onnx


def import_onnx():
    """The package `onnx`; UserError when it is not installed."""
    try:
        import onnx
        import onnx.shape_inference
    except ImportError as error:
        raise UserError(f"the package onnx cannot be imported ({error}); pip install onnx") from error
    return onnx


def load_onnx(path: Path | str) -> onnx.ModelProto:
    """Read the model without what it keeps in other files. Raises UserError naming `path`."""
    onnx = import_onnx()
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError: its module moves between versions
        raise UserError(f"{path}: is no ONNX model ({first_line(error)})") from error
    if not model.graph.node:
        raise UserError(f"{path}: is no ONNX model, or one without any operator")
    return model


def self_contained(path: Path) -> bytes:
    """The bytes of an ONNX file that keeps all its weights in itself.

    Raises UserError when `path` is none, or has a weight elsewhere: by such a name a file from elsewhere could have any
    file of this machine read as weights.
    """
    outside = _tensors_outside(load_onnx(path))
    if outside:
        raise UserError(f"{path}: weights lie in another file ({outside[0][:200]}); save the model as one file")
    return path.read_bytes()


def _tensors_outside(message) -> list[str]:
    """Names of files in which tensors anywhere within `message`, an ONNX model, have their values."""
    found = []
    if message.DESCRIPTOR.name == "TensorProto":
        if message.data_location == message.EXTERNAL or message.external_data:
            found.append(next((entry.value for entry in message.external_data if entry.key == "location"), "?"))
        return found
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if _is_many(value) else (value,):
                found += _tensors_outside(each)
    return found


def _is_many(value) -> bool:
    return hasattr(value, "__len__") and not hasattr(value, "DESCRIPTOR")


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
