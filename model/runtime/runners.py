"""Run a task with its runtime, or compute the embeddings of a store with the runtime that `choose` selected."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.common.geometry import STRIPS
from model.common.json_files import write_json
from model.export.input_files import FixedLength, write_input_files
from model.runtime.acl_runtime import AclRuntime
from model.runtime.ais_bench_tool import run_ais_bench
from model.runtime.benchmark_tool import run_benchmark
from model.runtime.choice import Choice
from model.runtime.info_list import embed_fixed, run_info_list
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.result_files import read_results
from model.runtime.static_runtime import StaticRuntime
from model.runtime.task import Task
from model.runtime.variable_length_runtime import VariableLengthRuntime, embed_variable_length, is_variable_length

logger = logging.getLogger(__name__)

# Ascend's tools, which run in their own process and exchange files. The other runtimes run in this process.
TOOLS: dict[str, Callable[[Task], dict[str, Any]]] = {"benchmark": run_benchmark, "ais_bench": run_ais_bench}


def run_and_record(task: Task) -> dict[str, Any]:
    """Run a task as `run` does, and also write the summary next to the results."""
    summary = run(task)
    write_json(task.summary_path(summary["batch_size"]), summary)
    return summary


def run(task: Task) -> dict[str, Any]:
    """Run a task: its list of input files, which writes result and performance files, or pure inference.

    Pure inference is the term of Ascend's documents for a run that measures the model alone. It uses batches of zeros,
    reads no input files and writes no results.

    Returns:
        The summary of the run.
    """
    if task.runtime in TOOLS:
        summary = TOOLS[task.runtime](task)
    else:
        with open_runtime(task) as runtime:
            summary = run_info_list(runtime, task) if task.info else _measure(runtime, task)
    return summary if task.info else summary | {"runtime": f"{task.runtime}, no data", "loop": task.loop}


def _measure(runtime: StaticRuntime, task: Task) -> dict[str, Any]:
    zeros = runtime.warm_up(task.warmup)
    times = [time.perf_counter()]
    for _ in range(task.loop):
        runtime.run(zeros)
        times.append(time.perf_counter())
    return {
        **runtime.facts(), "batch_size": runtime.batch_size, "sequences": task.loop * runtime.batch_size,
        "seconds": times[-1] - times[0], "e2e_throughput": None, **runtime.figures(np.diff(times) * 1000),
        "info": None, "result": None,
    }  # fmt: skip


@contextmanager
def open_runtime(task: Task) -> Iterator[StaticRuntime]:
    """Open the model of a task. Raises UserError if its batch size differs from the batch size of the task."""
    acl = task.runtime == "acl"
    with AclRuntime(task.model, task.device_id) if acl else OrtRuntime(task.model, task.threads) as runtime:
        if task.batch_size not in (None, runtime.batch_size):
            size = runtime.batch_size
            raise UserError(
                f"{task.model}: its batch size is {size}, expected {task.batch_size}; use --batch_size {size}, or a "
                f"model for batch size {task.batch_size}"
            )
        yield runtime


def embed(
    choice: Choice, store, length: FixedLength, work_folder: Path, threads: int | None = None, quiet: bool = False
) -> np.ndarray:
    """Compute the embeddings of all sequences of a store.

    benchmark and ais_bench need files: `work_folder` temporarily holds input files of `length.frame_num` frames and the
    results. The other runtimes use the model's number of frames. A variable-length model uses all frames.

    Args:
        length: how to pad and truncate sequences.
        threads: number of threads of ONNX Runtime. Default: one per core.

    Returns:
        Float array [N, 62, d].
    """
    task = Task(choice.runtime, choice.model, None, work_folder, quiet=quiet, threads=threads)
    if choice.by_length:
        return _embed_by_length(choice.by_length, task, store, length)
    if task.runtime == "onnxruntime" and is_variable_length(task.model):
        return embed_variable_length(VariableLengthRuntime(task.model, threads), store, quiet)
    if task.runtime not in TOOLS:
        with open_runtime(task) as runtime:
            return embed_fixed(runtime, store, length, quiet)
    work_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="deployed-", dir=work_folder) as name:
        bins, info, results = (Path(name) / part for part in ("bins", "bins.info", "results"))
        manifest = write_input_files(store, None, bins, info, length, quiet=quiet)
        run(task._replace(info=info, result_folder=results))
        size = next(results.iterdir()).stat().st_size
        return read_results(results, manifest, (STRIPS, max(1, size // (4 * STRIPS))))[0]


def _embed_by_length(models: dict[int, Path], task: Task, store, length: FixedLength) -> np.ndarray:
    """Embed each sequence with the model for the fewest frames that takes all frames of the sequence.

    If no model takes all frames of the sequence, it is truncated for the model that takes the most frames.

    Args:
        models: paths of the models by their number of frames, in increasing order.
    """
    lengths, frames = np.array(list(models)), np.asarray(store.index.frames)
    model_of = np.minimum(np.searchsorted(lengths, frames), len(lengths) - 1)
    truncated = int((frames > lengths[-1]).sum())
    if truncated:
        kept = "the first" if length.truncate == "first" else "evenly spaced"
        logger.warning("%d of %d sequences have more than %d frames: using %s %d frames", truncated, len(frames),
                       lengths[-1], kept, lengths[-1])  # fmt: skip
    rows: np.ndarray | None = None
    for number, (frame_num, path) in enumerate(models.items()):
        positions = np.flatnonzero(model_of == number)
        if not len(positions):
            continue
        with open_runtime(task._replace(model=path)) as runtime:
            if runtime.frame_num != frame_num:
                raise UserError(
                    f"{path}: takes {runtime.frame_num} frames, but its name says {frame_num} frames; export it again "
                    "with pth2onnx.py"
                )
            embedded = embed_fixed(runtime, store, length, task.quiet, positions)
        rows = np.empty((len(frames), *embedded.shape[1:]), embedded.dtype) if rows is None else rows
        rows[positions] = embedded
    return rows
