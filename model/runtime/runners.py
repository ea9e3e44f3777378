"""The runtimes by name: over a list of bins, or directly over a store of sequences."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import UserError
from model.export.bins import write_bins
from model.runtime.acl_runtime import AclRuntime
from model.runtime.ais_bench_tool import run_ais_bench
from model.runtime.benchmark_tool import run_benchmark
from model.runtime.choice import Choice
from model.runtime.external_tool import Task
from model.runtime.info_list import Runtime, embed_fixed, run_info_list
from model.runtime.ort_runtime import OrtRuntime
from model.runtime.result_files import EMBEDDING_SHAPE, read_results

_TOOLS: dict[str, Callable[[Task], dict[str, Any]]] = {"benchmark": run_benchmark, "ais_bench": run_ais_bench}


def run_list(choice: Choice, task: Task, threads: int | None = None, warmup: int = 1) -> dict[str, Any]:
    """Run the list of `task`; results and performance files appear, the summary is returned.

    threads: of ONNX Runtime. warmup: batches before the measured ones; ais_bench has one of its own.
    """
    if choice.runtime in _TOOLS:
        return _TOOLS[choice.runtime](task)
    with _open(choice, task.device_id, threads) as runtime:
        if task.batch_size not in (None, runtime.batch_size):
            raise UserError(f"{choice.model}: has batch size {runtime.batch_size}, not {task.batch_size} as asked for")
        return run_info_list(
            runtime, task.info, task.result_folder, warmup=warmup, device_id=task.device_id, quiet=task.quiet
        )


def embed(
    choice: Choice, store, padding: str, truncate: str, frame_num: int, work_folder: Path, quiet: bool = False
) -> np.ndarray:
    """Embeddings [N, 62, d] of all sequences of `store`.

    benchmark and ais_bench read files: bins of `frame_num` frames and the results lie in `work_folder`
    meanwhile. The others take the number of frames from the model.
    """
    if choice.runtime not in _TOOLS:
        with _open(choice) as runtime:
            return embed_fixed(runtime, store, padding, truncate, quiet)
    work_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="deployed-", dir=work_folder) as name:
        bins, info = Path(name) / "bins", Path(name) / "bins.info"
        length = {"frame_num": frame_num, "padding": padding, "truncate": truncate}
        manifest = write_bins(store, None, bins, info, **length, quiet=quiet)
        task = Task(choice.model, info, Path(name) / "results", quiet=quiet)
        _TOOLS[choice.runtime](task)
        size = next(task.result_folder.iterdir()).stat().st_size
        shape = (EMBEDDING_SHAPE[0], max(1, size // (4 * EMBEDDING_SHAPE[0])))
        return read_results(task.result_folder, manifest, shape)[0]


def _open(choice: Choice, device_id: int = 0, threads: int | None = None) -> Runtime:
    return AclRuntime(choice.model, device_id) if choice.runtime == "acl" else OrtRuntime(choice.model, threads)
