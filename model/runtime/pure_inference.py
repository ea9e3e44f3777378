"""Pure inference, as Ascend's documents call it: measure a model alone, with batches of zeros and without files."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from model.common.json_files import write_json
from model.runtime.ais_bench_tool import measure_ais_bench
from model.runtime.benchmark_tool import measure_benchmark
from model.runtime.choice import Choice
from model.runtime.figures import latency_figures
from model.runtime.runners import check_batch_size, open_runtime
from model.runtime.staging import Task

_TOOLS = {"benchmark": measure_benchmark, "ais_bench": measure_ais_bench}


def measure(choice: Choice, task: Task, loop: int, threads: int | None = None, warmup: int = 1) -> dict[str, Any]:
    """Run `loop` batches of zeros, write `pure_inference_batchsize_<B>_device_<ID>.json`, and return the summary.

    Args:
        task: the folder of the JSON file is that of `task.result_folder`, which is not written.
        threads: threads of ONNX Runtime. Default: one per core.
        warmup: number of batches before the measured ones. ais_bench runs its own warmup instead.
    """
    task = task._replace(om=choice.model, info=None)
    if choice.runtime in _TOOLS:
        summary = _TOOLS[choice.runtime](task, loop)
    else:
        summary = _measure_directly(choice, task, loop, threads, warmup)
    summary |= {"runtime": f"{choice.runtime}, no data", "loop": loop}
    name = f"pure_inference_batchsize_{summary['batch_size']}_device_{task.device_id}.json"
    task.result_folder.parent.mkdir(parents=True, exist_ok=True)
    write_json(task.result_folder.with_name(name), summary)
    return summary


def _measure_directly(choice: Choice, task: Task, loop: int, threads: int | None, warmup: int) -> dict[str, Any]:
    with open_runtime(choice, task.device_id, threads) as runtime:
        check_batch_size(runtime, task)
        zeros = np.zeros(runtime.input_shape, np.float32)
        for _ in range(warmup):
            runtime.run(zeros)
        milliseconds, start = [], time.perf_counter()
        for _ in range(loop):
            begin = time.perf_counter()
            runtime.run(zeros)
            milliseconds.append((time.perf_counter() - begin) * 1000)
        seconds = time.perf_counter() - start
        if runtime.device_ms is not None:
            milliseconds = runtime.device_ms[-loop:]  # without the copies
        return {
            **runtime.facts(), "batch_size": runtime.batch_size, "sequences": loop * runtime.batch_size,
            "seconds": seconds, "e2e_throughput": None,
            "device_throughput": loop * runtime.batch_size * 1000 / sum(milliseconds),
            "latency_ms": latency_figures(milliseconds), "info": None, "result": None,
        }  # fmt: skip
