"""A network -> an ONNX file for whole sequences under ONNX Runtime, which has proved itself or is not written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from model.common.errors import UserError
from model.common.files import atomic_file
from model.export.int8 import Int8SetLayers
from model.export.names import OUTPUT_NAME
from model.export.onnx_export import TOLERANCE, describe, walking_pixels
from model.export.onnx_file import import_onnx
from model.export.processor_check import SILS_SHAPE, relative_error, write_check
from model.export.whole_onnx import FloatSetLayers, whole_model
from model.network.gaitset import GaitSet

if TYPE_CHECKING:
    import onnx

# Of an embedding's length. 8 bits cost 0.04 to 0.06; sums that saturate cost 0.22.
MAX_INT8_ERROR = 0.10


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
        facts = _write(whole_model(network, FloatSetLayers(network)), part)
        found, expected = _both(network, runtime(part), figures)
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not difference <= TOLERANCE:
            raise UserError(
                f"{path}: not written, {OUTPUT_NAME} differs by {difference:.2g} of its size from torch's, tolerated "
                f"is {TOLERANCE:g}; are the weights finite?"
            )
    return {"file": str(path), **facts, "largest_difference": difference}


def export_int8(
    network: GaitSet,
    path: Path | str,
    sequences: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    runtime: Callable[[Path], SequenceRuntime],
) -> dict[str, Any]:
    """Write `network` for sequences of any length with set layers in 8 bit.

    The file appears whole, after ONNX Runtime has given embeddings near torch's for `held_out` (UserError otherwise).
    It holds two drawn sequences and their embeddings, which `WholeRuntime` computes again when it opens the file.

    Args:
        sequences: silhouettes of training subjects, uint8 [f, 64, 44] each, from which ranges and scales are taken.
        held_out: further sequences, which calibrate nothing.
        runtime: opens the file without that check, because the file does not hold the sequences yet.

    Returns:
        Facts for the log, among them `relative_error`: the mean distance of the file's embeddings of `held_out` from
        torch's, relative to their mean length.
    """
    if not sequences or not held_out:
        raise UserError(
            f"{path}: --int8 calibrates with one training sequence and checks with another, so it needs two, found "
            f"{len(sequences) + len(held_out)}; give --data_path"
        )
    start = time.perf_counter()
    random = np.random.default_rng(0)
    figures = np.stack([walking_pixels(SILS_SHAPE[1], random) for _ in range(SILS_SHAPE[0])])
    with atomic_file(path) as part:
        model = whole_model(network, Int8SetLayers(network, sequences))
        _write(model, part)
        opened = runtime(part)
        error = relative_error(*_both(network, opened, held_out))
        if not error <= MAX_INT8_ERROR:
            raise UserError(
                f"{path}: not written, its embeddings of {len(held_out)} training sequences that were held out differ "
                f"from torch's by {100 * error:.1f} % of their length, at most {100 * MAX_INT8_ERROR:.0f} % is "
                "allowed; calibrate with the data of training (--data_path), or use --whole"
            )
        import_onnx().helper.set_model_props(model, write_check(figures, opened.run(figures)))
        facts = _write(model, part)
    seconds = round(time.perf_counter() - start, 3)
    return {
        "file": str(path),
        **facts,
        "relative_error": error,
        "calibration_sequences": len(sequences),
        "held_out_sequences": len(held_out),
        "seconds": seconds,
    }


def _write(model: onnx.ModelProto, part: Path) -> dict[str, Any]:
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
