"""Export variable-length models for ONNX Runtime, in float32 or with 8-bit set layers, and check them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from model.common.errors import UserError
from model.common.files import atomic_file
from model.export.int8 import Int8SetLayers
from model.export.onnx_export import embed_twice, require_agreement, walking_pixels, write_model
from model.export.processor_check import SILS_SHAPE, relative_error, write_check
from model.export.variable_length_onnx import SetLayers, variable_length_model
from model.network.gaitset import GaitSet

# Limits of the mean distance between 8-bit embeddings and torch's, relative to the mean length of torch's embeddings.
# Each limit is about 16 % of the mean distance between two sequences, which is 0.62 lengths without `unit_strips` and
# 1.29 lengths with `unit_strips`. Without unit strips, 8-bit layers cause 0.04 to 0.06, and saturated sums cause 0.22.
MAX_INT8_ERROR, MAX_INT8_ERROR_OF_UNIT_STRIPS = 0.10, 0.20

# Opens a file as a runtime whose `run` embeds uint8 [n, s, 64, 44] -> float32 [n, 62, d].
OpenRuntime = Callable[[Path], Any]


def export_variable_length(network: GaitSet, path: Path | str, runtime: OpenRuntime) -> dict[str, Any]:
    """Write `network` as a float32 model for sequences of any length; see `variable_length_model`.

    The file replaces `path` only if its embeddings in `runtime` agree with torch's. The same weights give the same
    bytes.

    Returns:
        A summary: the facts of `write_model`, and the largest difference from torch, relative to the largest value.

    Raises:
        UserError: the largest difference from torch exceeds 1e-4 of the largest value.
    """
    random = np.random.default_rng(0)
    figures = [walking_pixels(frames, random)[None] for frames in (1, 23, 50)]
    with atomic_file(path) as part:
        facts = write_model(variable_length_model(SetLayers(network)), part)
        difference, largest = require_agreement(path, *embed_twice(network, runtime(part), figures))
    return {"file": str(path), **facts, "largest_difference": difference / largest}


def export_int8(
    network: GaitSet,
    path: Path | str,
    sequences: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    runtime: OpenRuntime,
) -> dict[str, Any]:
    """Write `network` as a model with 8-bit set layers for sequences of any length.

    The file replaces `path` only if its embeddings of `held_out` in `runtime` are close to torch's. The file also holds
    two drawn sequences and their embeddings, with which a runtime checks its processor when it opens the file.

    Args:
        sequences: silhouettes of training subjects, uint8 [f, 64, 44] each, for the calibration.
        held_out: further sequences, for the comparison with torch.
        runtime: opens the file without the check of the processor, because the file does not yet hold the drawn
            sequences.

    Returns:
        A summary with the facts of `write_model`. `relative_error` is the mean distance from torch's embeddings of
        `held_out`, relative to their mean length.

    Raises:
        UserError: there are too few sequences, or `relative_error` exceeds the limit.
    """
    if not sequences or not held_out:
        raise UserError(
            f"{path}: --int8 needs at least two training sequences, one to calibrate and one to check, found "
            f"{len(sequences) + len(held_out)}; give --data_path"
        )
    start = time.perf_counter()
    random = np.random.default_rng(0)
    figures = np.stack([walking_pixels(SILS_SHAPE[1], random) for _ in range(SILS_SHAPE[0])])
    with atomic_file(path) as part:
        model = variable_length_model(Int8SetLayers(network, sequences))
        write_model(model, part)
        opened = runtime(part)
        error = relative_error(*embed_twice(network, opened, [one[None] for one in held_out]))
        limit = MAX_INT8_ERROR if network.unit_strips is None else MAX_INT8_ERROR_OF_UNIT_STRIPS
        if not error <= limit:
            raise UserError(
                f"{path}: not written, because its embeddings of {len(held_out)} held-out training sequences differ "
                f"from torch's by {100 * error:.1f} % of their length, and at most {100 * limit:.0f} % is "
                "allowed; calibrate with the training data (--data_path), or use --whole"
            )
        onnx.helper.set_model_props(model, write_check(figures, opened.run(figures)))
        facts = write_model(model, part)
    seconds = round(time.perf_counter() - start, 3)
    return {
        "file": str(path), **facts, "relative_error": error, "calibration_sequences": len(sequences),
        "held_out_sequences": len(held_out), "seconds": seconds,
    }  # fmt: skip
