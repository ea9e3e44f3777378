"""ONNX Runtime as the deployed model's runtime, on machines without Ascend hardware."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.common.cores import core_count
from model.common.errors import UserError, first_line
from model.export.onnx_file import self_contained
from model.export.tensor_names import SILS_NAME

CPU = "CPUExecutionProvider"


class OrtRuntime:
    """A session on a model of static shapes: float32 [n, s, h, w] -> float32 [n, 62, d].

    threads: of one operator; None lets ONNX Runtime take one a core (of those this process may use).
    providers: names, or (name, options); default the CPU. ONNX Runtime falls back to the CPU in silence
    when a provider cannot start: here that is an error.
    Raises UserError for a missing or foreign file, a dynamic shape, a provider that is not there.
    """

    name = "onnxruntime"
    device_ms = None

    def __init__(
        self,
        onnx_path: Path | str,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, dict]] | None = None,
    ):
        self.path = Path(onnx_path)
        self.threads = threads or core_count()
        self.session, self.version = open_session(self.path, self.threads, providers)
        self.provider = self.session.get_providers()[0]
        self.input_name, self.input_shape = _only(self.path, self.session.get_inputs(), "input", 4)
        self.output_name, self.output_shape = _only(self.path, self.session.get_outputs(), "output", 3)

    @property
    def batch_size(self) -> int:
        return self.input_shape[0]

    @property
    def frame_num(self) -> int:
        return self.input_shape[1]

    def run(self, image_seq: np.ndarray) -> np.ndarray:
        """float32 of exactly the model's input shape -> float32 of its output shape."""
        if image_seq.shape != self.input_shape:
            raise ValueError(f"input of shape {image_seq.shape}, {self.path} takes {self.input_shape}")
        [feature] = run_session(self.path, self.session, [self.output_name], {self.input_name: image_seq})
        if feature.shape != self.output_shape:
            raise UserError(f"{self.path}: gave {feature.shape} where it promises {self.output_shape}; export it anew")
        return feature

    def __enter__(self) -> OrtRuntime:
        return self

    def __exit__(self, *error) -> None:
        """Python frees the session; there is nothing else to give back."""

    def facts(self) -> dict[str, Any]:
        return {
            "runtime": self.name,
            "version": f"{self.name} {self.version}",
            "provider": self.provider,
            "threads": self.threads,
            "model": str(self.path),
        }


def open_session(path: Path, threads: int, providers: Sequence[str | tuple[str, dict]] | None = None):
    """A session on the ONNX file, and ONNX Runtime's version; see `OrtRuntime` for what is raised."""
    ort = _import_onnxruntime()
    providers = list(providers or [CPU])
    asked = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if not path.is_file():
        raise UserError(f"{path}: no such ONNX file; make it with pth2onnx.py")
    if asked not in ort.get_available_providers():
        available = ", ".join(ort.get_available_providers())
        raise UserError(f"this ONNX Runtime {ort.__version__} has no {asked}, only {available}")
    options = ort.SessionOptions()
    # All optimisations and the memory arena, one operator after another: measured fastest, see
    # test/bench/deploy.py --settings.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    content = self_contained(path)
    try:
        session = ort.InferenceSession(content, options, providers=providers)
    except Exception as error:  # the classes of its binding have nothing but Exception in common
        reason = first_line(error)
        raise UserError(f"{path}: ONNX Runtime cannot load it, is it an ONNX file? ({reason})") from error
    provider = session.get_providers()[0]
    if provider != asked:
        raise UserError(f"{asked} was asked for, ONNX Runtime took {provider}: is its driver installed?")
    return session, ort.__version__


def run_session(path: Path, session, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    try:
        return session.run(outputs, inputs)
    except Exception as error:  # as above: no memory, or an operator that this graph misuses
        raise UserError(f"{path}: ONNX Runtime cannot run it ({first_line(error)})") from error


def _only(path: Path, values: list, kind: str, rank: int) -> tuple[str, tuple[int, ...]]:
    if any(value.name == SILS_NAME for value in values):
        raise UserError(
            f"{path}: takes whole sequences and no bins; python test.py --runtime onnxruntime --checkpoint {path}"
        )
    found = [f"{value.name} {value.type} {value.shape}" for value in values]
    static = len(values) == 1 and all(isinstance(size, int) and size > 0 for size in values[0].shape)
    if not static or len(values[0].shape) != rank or values[0].type != "tensor(float)":
        raise UserError(
            f"{path}: has {kind} {', '.join(found) or 'nothing'}; needed is one, float32, {rank} static "
            "axes, export it with pth2onnx.py"
        )
    return values[0].name, tuple(values[0].shape)


def _import_onnxruntime():
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"ONNX Runtime cannot be imported ({error}); pip install onnxruntime") from error
    return onnxruntime
