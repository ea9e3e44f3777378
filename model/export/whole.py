"""A network -> an ONNX file for whole sequences under ONNX Runtime, which has proved itself or is not written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from model.common.errors import UserError
from model.common.files import atomic_file
from model.export.int8 import Int8SetLayers, ranges_of
from model.export.names import OUTPUT_NAME
from model.export.onnx_export import TOLERANCE, describe, walking_pixels
from model.export.whole_onnx import FloatSetLayers, whole_model
from model.network.gaitset import GaitSet


class SequenceRuntime(Protocol):
    """A runtime with an opened model, such as `model.runtime.whole_runtime.WholeRuntime`."""

    def run(self, sils: np.ndarray) -> np.ndarray:
        """uint8 [n, s, 64, 44] -> embeddings float32 [n, 62, d]."""


def export_whole(network: GaitSet, path: Path | str, runtime: Callable[[Path], SequenceRuntime]) -> dict[str, Any]:
    """Write `network` for sequences of any length: see `whole_model`. Returns facts for the log.

    The file appears whole, after ONNX Runtime has given torch's embeddings (largest difference at most 1e-4 of the
    largest value; UserError otherwise). The same weights give the same bytes.
    """
    random = np.random.default_rng(0)
    figures = [walking_pixels(frames, random) for frames in (1, 23, 50)]
    with atomic_file(path) as part:
        facts = _write(network, FloatSetLayers(network), part)
        found, expected = _both(network, runtime(part), figures)
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        _refuse(path, difference, TOLERANCE)
    return {"file": str(path), **facts, "largest_difference": difference}


def export_int8(
    network: GaitSet, path: Path | str, sequences: Sequence[np.ndarray], runtime: Callable[[Path], SequenceRuntime]
) -> dict[str, Any]:
    """The same with set layers in 8 bit.

    sequences: silhouettes of training subjects, uint8 [f, 64, 44] each, that the ranges of all maps are taken from.
    Returns facts, among them `relative_error`: the mean distance from torch's embeddings of some of `sequences`, as a
    part of their mean length.
    """
    if not sequences:
        raise UserError(f"{path}: no training sequence to calibrate with; give --data_path")
    start = time.perf_counter()
    with atomic_file(path) as part:
        facts = _write(network, Int8SetLayers(network, ranges_of(network, sequences)), part)
        found, expected = _both(network, runtime(part), sequences[:: max(1, len(sequences) // 4)])
        distances, lengths = (
            np.linalg.norm(each.reshape(len(each), -1), axis=1) for each in (found - expected, expected)
        )
        error = float(distances.mean() / lengths.mean())
        _refuse(path, error, 1.0)
    seconds = round(time.perf_counter() - start, 3)
    return {
        "file": str(path),
        **facts,
        "relative_error": error,
        "calibration_sequences": len(sequences),
        "seconds": seconds,
    }


def _write(network: GaitSet, layers, part: Path) -> dict[str, Any]:
    model = whole_model(network, layers)
    part.write_bytes(model.SerializeToString(deterministic=True))
    facts = describe(part, model)
    return {key: facts[key] for key in ("opset", "operators", "operator_count", "bytes", "sha256")}


def _both(network: GaitSet, runtime: SequenceRuntime, sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [n, 62, d] of the exported file and of torch."""
    found = np.concatenate([runtime.run(one[None]) for one in sequences])
    training = network.training
    network.eval()
    with torch.inference_mode():
        expected = torch.cat([network(torch.from_numpy(one[None].copy())) for one in sequences])
    network.train(training)
    return found, expected.float().cpu().numpy()


def _refuse(path: Path | str, difference: float, tolerance: float) -> None:
    if not difference <= tolerance:
        raise UserError(
            f"{path}: not written, {OUTPUT_NAME} differs by {difference:.2g} of its size from torch's, tolerated is "
            f"{tolerance:g}; are the weights finite?"
        )
