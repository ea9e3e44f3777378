"""The format that the stand-ins of Ascend's tools use as an om: an ONNX model after a header.

    OMSTANDIN1
    {"soc_version": "Ascend310", "input_name": "image_seq", "input_shape": [1, 100, 64, 44], "output_name": "feature"}
    ONNX bytes

Only the stand-ins know this format. The format of a real om is not published, so this project cannot read it.
"""

import json
from pathlib import Path
from typing import Any

MAGIC = b"OMSTANDIN1\n"


class NotAnOmError(Exception):
    """The file is not an om file. Each tool reports this in its own way."""


def write_om(path: Path | str, onnx: bytes, **header: Any) -> None:
    """Write an om. The header needs `soc_version` and `input_shape`."""
    Path(path).write_bytes(MAGIC + json.dumps(header).encode() + b"\n" + onnx)


def read_om(path: Path | str) -> tuple[dict[str, Any], bytes]:
    """Return the header and the ONNX bytes. Raises NotAnOmError for other files and OSError if it does not exist."""
    content = Path(path).read_bytes()
    if not content.startswith(MAGIC):
        raise NotAnOmError(f"{path} does not begin with {MAGIC!r}")
    header, _, onnx = content.removeprefix(MAGIC).partition(b"\n")
    return json.loads(header), onnx
