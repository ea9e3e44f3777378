"""Run a deployed model with ONNX Runtime, on machines that have no Ascend hardware."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from model.common.cores import core_count
from model.common.errors import UserError, first_line
from model.common.onnx_runtime import import_onnxruntime
from model.export.onnx_file import SILS_NAME, self_contained
from model.runtime.static_runtime import StaticRuntime


class OrtRuntime(StaticRuntime):
    """Run an ONNX model of static shape. Python's garbage collection releases the session.

    Args:
        threads: number of threads per operator. Default: one thread per core that this process may use.

    Raises:
        UserError: if the file is missing, is not an ONNX model that ONNX Runtime supports, or has a dynamic shape.
    """

    name = "onnxruntime"

    def __init__(self, onnx_path: Path | str, threads: int | None = None):
        self.path = Path(onnx_path)
        self.threads = threads or core_count()
        self.session, self.version = open_session(self.path, self.threads)
        self.input_name, self.input_shape = _only(self.path, self.session.get_inputs(), "input", 4)
        self.output_name, self.output_shape = _only(self.path, self.session.get_outputs(), "output", 3)

    def _run(self, image_seq: np.ndarray) -> np.ndarray:
        [feature] = run_session(self.path, self.session, [self.output_name], {self.input_name: image_seq})
        if feature.shape != self.output_shape:
            raise UserError(
                f"{self.path}: the output shape is {feature.shape}, but the file declares {self.output_shape}; "
                "export it again"
            )
        return feature

    def facts(self) -> dict[str, Any]:
        return {
            "runtime": self.name, "version": f"{self.name} {self.version}",
            "provider": self.session.get_providers()[0], "threads": self.threads, "model": str(self.path),
        }  # fmt: skip


def open_session(path: Path, threads: int):
    """Return a session for an ONNX file and the version of ONNX Runtime. See `OrtRuntime` for errors."""
    ort = import_onnxruntime()
    # All other options keep their defaults (all optimizations, the memory arena and sequential execution of operators).
    # These defaults are the fastest settings that test/bench/deploy.py --settings measures.
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    content = self_contained(path)
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the exceptions of ONNX Runtime have no other common base class
        reason = first_line(error)
        raise UserError(
            f"{path}: ONNX Runtime cannot load this file ({reason}); give an ONNX file of pth2onnx.py"
        ) from error
    return session, ort.__version__


def run_session(path: Path, session, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    try:
        return session.run(outputs, inputs)
    except Exception as error:  # see above
        raise UserError(f"{path}: ONNX Runtime cannot run this model ({first_line(error)}); export it again") from error


def _only(path: Path, values: list, kind: str, rank: int) -> tuple[str, tuple[int, ...]]:
    """Return the name and the shape of the only value in `values`, which are the inputs or the outputs of a model.

    Raises UserError if there is not exactly one float32 value with `rank` static dimensions.
    """
    if any(value.name == SILS_NAME for value in values):
        raise UserError(
            f"{path}: is a variable-length model, which cannot read input files; run python test.py --runtime "
            f"onnxruntime --checkpoint {shlex.quote(str(path))}"
        )
    sizes = values[0].shape if len(values) == 1 else []
    static = len(sizes) == rank and all(isinstance(size, int) and size > 0 for size in sizes)
    if static and values[0].type == "tensor(float)":
        return values[0].name, tuple(sizes)
    described = ", ".join(f"{value.name} {value.type} {value.shape}" for value in values)
    raise UserError(
        f"{path}: its {kind} is {described or 'missing'}, expected one float32 tensor with {rank} static dimensions; "
        "export it with pth2onnx.py"
    )
