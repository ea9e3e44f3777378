"""A network -> an ONNX file of fixed shapes, which has proved itself or is not written."""

from __future__ import annotations

import copy
import hashlib
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from model.common.errors import UserError
from model.common.files import whole_file
from model.common.messages import progress_bar
from model.data.raw.silhouette import HEIGHT, WIDTH
from model.export.bins import FRAME_NUM
from model.export.lint import OPSET, lint_onnx
from model.export.names import INPUT_NAME, OUTPUT_NAME
from model.export.onnx_file import import_onnx, load_onnx
from model.network.gaitset import GaitSet

if TYPE_CHECKING:
    import onnx

FRAME_SHAPE = (HEIGHT, WIDTH)
TOLERANCE = 1e-4  # of the largest value; float32 in another order of summing differs by about 1e-6


class StaticGaitSet(nn.Module):
    """The network with all sizes spelled out, so that the trace computes no shape while it runs.

    Set pooling runs on [n, s, c·h·w] instead of [n, s, c, h, w]: the same maximum at rank 3, because no
    converter promises a reduction at rank 5.
    """

    def __init__(self, network: GaitSet, batch_size: int, frame_num: int):
        super().__init__()
        self.network = network
        self.batch_size = batch_size
        self.frame_num = frame_num

    def forward(self, image_seq: Tensor) -> Tensor:
        """[n, s, 64, 44] -> [n, 62, d]"""
        n, s = self.batch_size, self.frame_num
        maps = self.network.frame_maps(image_seq.reshape(n * s, *FRAME_SHAPE))
        return self.network.embed(*(self._set_pooling(each) for each in maps))

    def _set_pooling(self, maps: Tensor) -> Tensor:
        """[n*s, c, h, w] -> [n, c, h, w]"""
        flat = maps.view(self.batch_size, self.frame_num, -1)
        return flat.max(1).values.view(self.batch_size, *maps.shape[1:])


def export_onnx(
    network: GaitSet,
    path: Path | str,
    batch_size: int = 1,
    frame_num: int = FRAME_NUM,
    *,
    runtime: Callable[[Path], BatchRuntime],
    tolerance: float = TOLERANCE,
    quiet: bool = True,
) -> dict[str, Any]:
    """Write `network` as ONNX: `image_seq` [batch_size, frame_num, 64, 44] -> `feature` [batch_size, 62, d].

    The model is written to a temporary file, linted for ATC and compared with `network` in `runtime` (largest
    difference at most `tolerance` times the largest value). Only then does it replace `path`. The same weights give
    the same bytes under the same version of torch. `network` is not modified.

    Args:
        runtime: opens an ONNX file for the comparison, for example `OrtRuntime`. It is an argument because the
            runtimes are a layer above this one.

    Returns facts for the log. Raises UserError naming the check that failed.
    """
    if batch_size < 1 or frame_num < 1:
        raise ValueError(f"batch size {batch_size} and {frame_num} frames must both be at least 1")
    import_onnx()
    start = time.perf_counter()
    network = copy.deepcopy(network).to("cpu", torch.float32, memory_format=torch.contiguous_format)
    network.eval().requires_grad_(False)
    with whole_file(path) as part, progress_bar(total=3, unit="steps", what="export", quiet=quiet) as bar:
        _trace(StaticGaitSet(network, batch_size, frame_num), part)
        bar.update()
        model = strip_notes(load_onnx(part))
        part.write_bytes(model.SerializeToString(deterministic=True))
        _refuse_problems(Path(path), lint_onnx(part))
        bar.update()
        comparison = compare_with_torch(network, runtime(part), tolerance, Path(path))
        facts = describe(part, model)
        bar.update()
    return {
        "file": str(path),
        "batch_size": batch_size,
        "frame_num": frame_num,
        **facts,
        **comparison,
        "seconds": round(time.perf_counter() - start, 3),
    }


def _refuse_problems(path: Path, problems: list[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise UserError(f"{path}: not written, the exported graph does not suit ATC: {problems[0]}{more}")


def strip_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what tells of the exporting machine (source files and lines) and nothing about the network."""
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    graph = model.graph
    for noted in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        for field in ("doc_string", "metadata_props"):
            if field in noted.DESCRIPTOR.fields_by_name:
                noted.ClearField(field)
    return model


def describe(path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    """Shapes, opset, operators, size and hash of a linted model at `path`."""
    content = path.read_bytes()
    operators = Counter(node.op_type for node in model.graph.node)
    return {
        "input": {value.name: _sizes(value) for value in model.graph.input},
        "output": {value.name: _sizes(value) for value in model.graph.output},
        "opset": model.opset_import[0].version,
        "ir_version": model.ir_version,
        "operators": dict(sorted(operators.items())),
        "operator_count": sum(operators.values()),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


class BatchRuntime(Protocol):
    """A runtime with an opened static model, such as `model.runtime.ort_runtime.OrtRuntime`."""

    batch_size: int
    frame_num: int

    def run(self, batch: np.ndarray) -> np.ndarray:
        """float32 [batch_size, frame_num, 64, 44] -> embeddings float32 [batch_size, 62, d]."""

    def facts(self) -> dict[str, Any]:
        """Name and `version` of the runtime."""


def compare_with_torch(network: GaitSet, runtime: BatchRuntime, tolerance: float, name: Path) -> dict[str, Any]:
    """Largest difference between the model in `runtime` and `network` under torch, on two or more sequences.

    One half of them is random pixels of 0 and 1, the other figures that walk. torch gets them one at a time:
    that also checks that a sequence gets the same embedding alone and in a batch. `name` is for the error.
    Raises UserError when the difference exceeds `tolerance` times the largest value, or is no number.
    """
    sequences = max(2, runtime.batch_size)
    sequences += -sequences % runtime.batch_size
    random = np.random.default_rng(0)
    image_seq = np.stack(
        [walking_figure(runtime.frame_num, random) if i % 2 else _random_pixels(runtime.frame_num, random)
         for i in range(sequences)]
    )  # fmt: skip
    found = np.concatenate([runtime.run(batch) for batch in np.split(image_seq, sequences // runtime.batch_size)])
    with torch.inference_mode():
        expected = torch.cat([network(torch.from_numpy(one[None])) for one in image_seq]).numpy()
    difference, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    if not difference <= tolerance * largest:
        raise UserError(
            f"{name}: not written, ONNX Runtime differs from torch by {difference:.3g} where "
            f"{largest:.3g} is the largest value, tolerated is {tolerance:g} of that; are the weights finite?"
        )
    return {
        "largest_difference": difference,
        "largest_value": largest,
        "tolerance": tolerance,
        "compared_sequences": sequences,
        "compared_with": runtime.facts()["version"],
    }


def walking_figure(frame_num: int, random: np.random.Generator) -> np.ndarray:
    """`walking_pixels` as static models take them: float32 [frame_num, 64, 44], multiples of 1/255."""
    return walking_pixels(frame_num, random).astype(np.float32) / 255


def walking_pixels(frame_num: int, random: np.random.Generator) -> np.ndarray:
    """Head, trunk and two swinging legs with soft edges: uint8 [frame_num, 64, 44]."""
    y, x = np.mgrid[0:64, 0:44].astype(np.float32)
    phases = random.uniform(0, 2 * np.pi) + np.arange(frame_num) * random.uniform(0.15, 0.3)
    frames = np.empty((frame_num, *FRAME_SHAPE), dtype=np.uint8)
    for frame, phase in zip(frames, phases, strict=True):
        head = np.hypot(y - 6, x - 22) - 5
        trunk = np.hypot((y - 24) / 2.2, x - 22) - 7
        legs = [
            np.maximum(np.abs(x - 22 - side * (y - 36) * np.sin(phase) * 0.4) - 3.5, np.abs(y - 49) - 14)
            for side in (-1, 1)
        ]
        inside = 0.5 - np.minimum.reduce([head, trunk, *legs])
        frame[:] = np.round(np.clip(inside, 0, 1) * 255)
    return frames


def _random_pixels(frame_num: int, random: np.random.Generator) -> np.ndarray:
    return (random.random((frame_num, *FRAME_SHAPE)) > 0.6).astype(np.float32)


def _trace(network: StaticGaitSet, path: Path) -> None:
    example = torch.zeros(network.batch_size, network.frame_num, *FRAME_SHAPE)
    with warnings.catch_warnings():
        # torch's newer exporter writes opset 18 whatever it is asked for, so the announced end of this
        # one is no reason to leave it; the lint fails should it begin to do the same.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
        )


def _sizes(value) -> list[int]:
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
