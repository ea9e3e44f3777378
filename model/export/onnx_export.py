"""Export a network as an ONNX file with static shapes. The file is kept only if it passes all checks."""

import copy
import hashlib
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from model.common.errors import UserError
from model.common.files import atomic_file
from model.common.geometry import FRAME_HEIGHT, FRAME_WIDTH
from model.common.messages import progress_bar
from model.export.input_files import FRAME_NUM
from model.export.lint import OPSET, in_short, lint_onnx
from model.export.onnx_file import INPUT_NAME, OUTPUT_NAME, load_onnx, shape_of
from model.network.gaitset import GaitSet

FRAME_SHAPE = (FRAME_HEIGHT, FRAME_WIDTH)
TOLERANCE = 1e-4  # relative to the largest value; a different summation order in float32 changes values by about 1e-6


class StaticGaitSet(nn.Module):
    """The network with constant sizes, so that the traced graph computes no shapes at run time.

    Set pooling runs on [n, s, c·h·w] instead of [n, s, c, h, w]: the maximum is the same, and ATC's documentation does
    not state that reductions at rank 5 are supported.
    """

    def __init__(self, network: GaitSet, batch_size: int, frame_num: int):
        super().__init__()
        self.network = network
        self.batch_size = batch_size
        self.frame_num = frame_num

    def forward(self, image_seq: Tensor) -> Tensor:
        """Embed float32 sequences: [n, s, 64, 44] -> [n, 62, d]."""
        n, s = self.batch_size, self.frame_num
        maps = self.network.frame_maps(image_seq.reshape(n * s, *FRAME_SHAPE))
        return self.network.embed(*(self._set_pooling(each) for each in maps))

    def _set_pooling(self, maps: Tensor) -> Tensor:
        """Return the maximum over the frames of each sequence: [n*s, c, h, w] -> [n, c, h, w]."""
        flat = maps.view(self.batch_size, self.frame_num, -1)
        return flat.max(1).values.view(self.batch_size, *maps.shape[1:])


def export_onnx(
    network: GaitSet,
    path: Path | str,
    batch_size: int = 1,
    frame_num: int = FRAME_NUM,
    *,
    runtime: Callable[[Path], Any],
    quiet: bool = True,
) -> dict[str, Any]:
    """Write `network` as ONNX: `image_seq` [batch_size, frame_num, 64, 44] -> `feature` [batch_size, 62, d].

    The model is written to a temporary file, checked against the rules of ATC, run in `runtime`, and compared with
    `network`. If all checks pass, the file replaces `path`. The same weights give the same bytes with the same version
    of torch. `network` is not modified.

    Args:
        runtime: opens an ONNX file for the comparison, for example `OrtRuntime`. It is an argument because the
            runtimes are a layer above this one.

    Returns:
        A summary: the sizes, the facts of `write_model`, the comparison, and the duration.

    Raises:
        UserError: a check failed, or `path` cannot be written.
    """
    if batch_size < 1 or frame_num < 1:
        raise ValueError(f"batch_size and frame_num must be at least 1, found {batch_size} and {frame_num}")
    start = time.perf_counter()
    network = copy.deepcopy(network).to("cpu", torch.float32, memory_format=torch.contiguous_format)
    network.eval().requires_grad_(False)
    with atomic_file(path) as part, progress_bar(total=3, unit="steps", what="export", quiet=quiet) as bar:
        _trace(StaticGaitSet(network, batch_size, frame_num), part)
        bar.update()
        model = strip_metadata(load_onnx(part))
        facts = write_model(model, part)
        problems = lint_onnx(model)
        if problems:
            raise UserError(f"{path}: not written, because the exported graph does not suit ATC: {in_short(problems)}")
        bar.update()
        comparison = compare_with_torch(network, runtime(part), Path(path))
        bar.update()
    return {
        "file": str(path), "batch_size": batch_size, "frame_num": frame_num, **facts, **comparison,
        "seconds": round(time.perf_counter() - start, 3),
    }  # fmt: skip


def strip_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove file names and line numbers of the source code, which reveal paths of the exporting machine."""
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        for field in ("doc_string", "metadata_props"):
            if field in part.DESCRIPTOR.fields_by_name:
                part.ClearField(field)
    return model


def write_model(model: onnx.ModelProto, path: Path) -> dict[str, Any]:
    """Write `model`, and return its shapes, opset and operators, and the size and SHA-256 of the file."""
    content = model.SerializeToString(deterministic=True)
    path.write_bytes(content)
    operators = Counter(node.op_type for node in model.graph.node)
    return {
        "input": {value.name: shape_of(value) for value in model.graph.input},
        "output": {value.name: shape_of(value) for value in model.graph.output},
        "opset": model.opset_import[0].version, "ir_version": model.ir_version,
        "operators": dict(sorted(operators.items())), "operator_count": sum(operators.values()),
        "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip


def compare_with_torch(network: GaitSet, runtime: Any, name: Path) -> dict[str, Any]:
    """Compare the model in `runtime` with `network` in torch on two or more sequences.

    Half of the sequences are random pixels of 0 and 1. The other half are drawn walking figures. torch gets one
    sequence at a time, so this also checks that an embedding does not depend on the other sequences of the batch.

    Args:
        name: the file's final path, for the error message.

    Raises:
        UserError: the difference is NaN or exceeds TOLERANCE times the largest value.
    """
    sequences = max(2, runtime.batch_size)
    sequences += -sequences % runtime.batch_size
    random = np.random.default_rng(0)
    image_seq = np.empty((sequences, runtime.frame_num, *FRAME_SHAPE), np.float32)
    for i, sequence in enumerate(image_seq):
        if i % 2:
            sequence[:] = walking_pixels(runtime.frame_num, random) / np.float32(255)
        else:
            sequence[:] = random.random(sequence.shape) > 0.6
    batches = np.split(image_seq, sequences // runtime.batch_size)
    difference, largest = require_agreement(name, *embed_twice(network, runtime, batches))
    return {
        "largest_difference": difference,
        "largest_value": largest,
        "tolerance": TOLERANCE,
        "compared_sequences": sequences,
        "compared_with": runtime.facts()["version"],
    }


def embed_twice(network: GaitSet, runtime: Any, batches: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings [n, 62, d] of the batches in `runtime`, and of each sequence alone in torch."""
    found = np.concatenate([runtime.run(batch) for batch in batches])
    with torch.inference_mode():
        expected = torch.cat([network(torch.from_numpy(one[None].copy())) for batch in batches for one in batch])
    return found, expected.float().cpu().numpy()


def require_agreement(name: Path | str, found: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Return the largest difference between embeddings of ONNX Runtime and of torch, and torch's largest value.

    Raises UserError if the difference is NaN or exceeds TOLERANCE times the largest value.
    """
    difference, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    if not difference <= TOLERANCE * largest:
        raise UserError(
            f"{name}: not written, because ONNX Runtime differs from torch by {difference:.3g}, and at most "
            f"{TOLERANCE * largest:.3g} is allowed ({TOLERANCE:g} of the largest value); check that the weights are "
            "finite"
        )
    return difference, largest


def walking_pixels(frame_num: int, random: np.random.Generator) -> np.ndarray:
    """Draw a head, a trunk and two swinging legs with soft edges: uint8 [frame_num, 64, 44]."""
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


def _trace(network: StaticGaitSet, path: Path) -> None:
    example = torch.zeros(network.batch_size, network.frame_num, *FRAME_SHAPE)
    with warnings.catch_warnings():
        # torch's newer exporter writes opset 18 even if opset 11 is requested, so the deprecated exporter is needed.
        # If the deprecated exporter ever does the same, `lint_onnx` reports it.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        torch.onnx.export(
            network.eval(),  # the exporter restores this mode, and only evaluation mode scales unit strips
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
        )
