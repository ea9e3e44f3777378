"""Run a selected runtime on a list of input files or directly on the sequences of a store."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.export.input_files import FixedLength, write_input_files
from model.runtime.acl_runtime import AclRuntime
from model.runtime.ais_bench_tool import run_ais_bench
from model.runtime.benchmark_tool import run_benchmark
from model.runtime.choice import Choice
from model.runtime.info_list import Runtime, embed_fixed, run_info_list
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.result_files import EMBEDDING_SHAPE, read_results
from model.runtime.staging import Task
from model.runtime.variable_length_runtime import VariableLengthRuntime, embed_variable_length, is_variable_length

logger = logging.getLogger(__name__)

_TOOLS: dict[str, Callable[[Task], dict[str, Any]]] = {"benchmark": run_benchmark, "ais_bench": run_ais_bench}


def run_list(choice: Choice, task: Task, threads: int | None = None, warmup: int = 1) -> dict[str, Any]:
    """Run the model on the input files of a task, write result and performance files, and return the summary.

    Args:
        threads: threads of ONNX Runtime. Default: one per core.
        warmup: number of batches before the measured ones. ais_bench runs its own warmup instead.
    """
    if choice.runtime in _TOOLS:
        return _TOOLS[choice.runtime](task)
    with open_runtime(choice, task.device_id, threads) as runtime:
        check_batch_size(runtime, task)
        return run_info_list(
            runtime,
            task.info,
            task.result_folder,
            warmup=warmup,
            device_id=task.device_id,
            quiet=task.quiet,
            share=task.share,
        )


def embed(
    choice: Choice,
    store,
    padding: str,
    truncate: str,
    frame_num: int,
    work_folder: Path,
    threads: int | None = None,
    quiet: bool = False,
) -> np.ndarray:
    """Compute the embeddings of all sequences of a store.

    benchmark and ais_bench read and write files: input files of `frame_num` frames and the results are stored
    in `work_folder` temporarily. The other runtimes use the model's number of frames, or all frames for a
    variable-length model.

    Args:
        threads: threads of ONNX Runtime. Default: one per core.

    Returns:
        Float array [N, 62, d].
    """
    if choice.by_length:
        return _embed_by_length(choice, store, padding, truncate, threads, quiet)
    if choice.runtime == "onnxruntime" and is_variable_length(choice.model):
        return embed_variable_length(VariableLengthRuntime(choice.model, threads), store, quiet)
    if choice.runtime not in _TOOLS:
        with open_runtime(choice, threads=threads) as runtime:
            return embed_fixed(runtime, store, padding, truncate, quiet)
    work_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="deployed-", dir=work_folder) as name:
        bins, info = Path(name) / "bins", Path(name) / "bins.info"
        length = FixedLength(frame_num, padding, truncate)
        manifest = write_input_files(store, None, bins, info, length, quiet=quiet)
        task = Task(choice.model, info, Path(name) / "results", quiet=quiet)
        _TOOLS[choice.runtime](task)
        size = next(task.result_folder.iterdir()).stat().st_size
        shape = (EMBEDDING_SHAPE[0], max(1, size // (4 * EMBEDDING_SHAPE[0])))
        return read_results(task.result_folder, manifest, shape)[0]


def _embed_by_length(
    choice: Choice, store, padding: str, truncate: str, threads: int | None, quiet: bool
) -> np.ndarray:
    """Embed each sequence with the shortest model that takes all its frames, or with the longest model."""
    lengths = np.array(list(choice.by_length))
    frames = np.asarray(store.index.frames)
    model_of = np.minimum(np.searchsorted(lengths, frames), len(lengths) - 1)
    truncated = int((frames > lengths[-1]).sum())
    if truncated:
        logger.warning("%d of %d sequences have more than %d frames: using %s %d", truncated, len(frames), lengths[-1],
                       "the first" if truncate == "first" else "evenly spaced", lengths[-1])  # fmt: skip
    rows: np.ndarray | None = None
    for number, (frame_num, path) in enumerate(choice.by_length.items()):
        positions = np.flatnonzero(model_of == number)
        if not len(positions):
            continue
        with open_runtime(choice._replace(model=path), threads=threads) as runtime:
            if runtime.input_shape[1] != frame_num:
                raise UserError(f"{path}: takes {runtime.input_shape[1]} frames, but its name says {frame_num}")
            embedded = embed_fixed(runtime, store, padding, truncate, quiet, positions)
        rows = np.empty((len(frames), *embedded.shape[1:]), embedded.dtype) if rows is None else rows
        rows[positions] = embedded
    return rows


def check_batch_size(runtime: Runtime, task: Task) -> None:
    if task.batch_size not in (None, runtime.batch_size):
        raise UserError(f"{task.om}: its batch size is {runtime.batch_size}, but --batch_size is {task.batch_size}")


def open_runtime(choice: Choice, device_id: int = 0, threads: int | None = None) -> Runtime:
    return AclRuntime(choice.model, device_id) if choice.runtime == "acl" else OrtRuntime(choice.model, threads)
