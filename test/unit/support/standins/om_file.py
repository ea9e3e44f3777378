"""Read and write the om files of the stand-ins for Ascend's tools: a header, followed by an ONNX model.

    OMSTANDIN1
    {"soc_version": "Ascend310", "input_name": "image_seq", "input_shape": [1, 100, 64, 44], "output_name": "feature"}
    ONNX bytes

Only the stand-ins use this format. The format of real om files is not published, so this project cannot read them.
"""

import json
from pathlib import Path
from typing import Any

MAGIC = b"OMSTANDIN1\n"


class NotAnOmError(Exception):
    """The file is not a usable om file. Each stand-in reports this error in the form of its tool."""


def write_om(path: Path | str, onnx: bytes, **header: Any) -> None:
    """Write an om file. `header` must contain `soc_version` and `input_shape`."""
    Path(path).write_bytes(MAGIC + json.dumps(header).encode() + b"\n" + onnx)


def read_om(path: Path | str) -> tuple[dict[str, Any], bytes]:
    """Return the header and the bytes of the ONNX model.

    Raises:
        NotAnOmError: if the file is not an om file.
        OSError: if the file cannot be read.
    """
    content = Path(path).read_bytes()
    if not content.startswith(MAGIC):
        raise NotAnOmError(f"{path} does not begin with {MAGIC!r}")
    header, _, onnx = content.removeprefix(MAGIC).partition(b"\n")
    return json.loads(header), onnx
