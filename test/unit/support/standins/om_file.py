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
KEYS = ("soc_version", "input_name", "input_shape", "output_name")


class NotAnOmError(Exception):
    """The file is not an om file. Each tool reports this in its own way."""


def write_om(
    path: Path | str,
    onnx: bytes,
    *,
    soc_version: str,
    input_shape: list[int] | tuple[int, ...],
    input_name: str = "image_seq",
    output_name: str = "feature",
) -> None:
    header = dict(zip(KEYS, (soc_version, input_name, list(input_shape), output_name), strict=True))
    Path(path).write_bytes(MAGIC + json.dumps(header).encode() + b"\n" + onnx)


def read_om(path: Path | str) -> tuple[dict[str, Any], bytes]:
    """Return the header and the ONNX bytes. Raises NotAnOmError for other files and OSError if it does not exist."""
    content = Path(path).read_bytes()
    if not content.startswith(MAGIC):
        raise NotAnOmError(f"{path} does not begin with {MAGIC!r}")
    first, newline, onnx = content[len(MAGIC) :].partition(b"\n")
    try:
        header = json.loads(first)
    except ValueError as error:
        raise NotAnOmError(f"{path}: its header is not JSON ({error})") from error
    if not newline or not onnx or not isinstance(header, dict) or sorted(header) != sorted(KEYS):
        raise NotAnOmError(f"{path}: its header lacks one of {KEYS}, or no model follows it")
    return header, onnx
