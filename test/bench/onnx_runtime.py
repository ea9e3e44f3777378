"""Sequences per second of the exported model under ONNX Runtime, beside torch on the same input.

    python test/bench/onnx_runtime.py                                       # batch 1 and 16, 100 frames
    python test/bench/onnx_runtime.py --batch_sizes 1 --frame_num 10 --rounds 3
    python test/bench/onnx_runtime.py --settings --orders --batch_sizes 1   # also what was not chosen
    python test/bench/onnx_runtime.py --cpu_time --batch_sizes 1            # processor time, for a busy machine

Weights are random, what takes the time does not depend on them. Contestants take turns; medians count. The
last line is JSON: batch size -> contestant -> {"sequences_per_second", "milliseconds"}, and the ratio of
`onnxruntime` (as model.runtime sets it) to `torch`.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from model.command_line import CommandParser, positive
from model.errors import run_command
from model.export.onnx_export import export_onnx, walking_figure
from model.network import GaitSet
from model.network import basic_blocks as blocks
from model.runtime.ort_runtime import CPU, OrtRuntime

Contestants = dict[str, Callable[[np.ndarray], object]]


def activate_then_pool(block: blocks.BasicConv2d, x: Tensor) -> Tensor:
    """The original's order: activation beside its convolution, where a runtime can fuse the two."""
    x = F.leaky_relu(block.conv(x), blocks.NEGATIVE_SLOPE)
    return F.max_pool2d(x, 2) if block.pooling else x


def other_settings(path: Path, threads: int) -> Contestants:
    """Sessions that differ in one setting each from the one that OrtRuntime opens."""
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    changes = {
        "one thread": {"intra_op_num_threads": 1},
        "own choice of threads": {"intra_op_num_threads": 0},
        "optimisation basic": {"graph_optimization_level": levels.ORT_ENABLE_BASIC},
        "optimisation extended": {"graph_optimization_level": levels.ORT_ENABLE_EXTENDED},
        "no memory arena": {"enable_cpu_mem_arena": False},
        "no memory pattern": {"enable_mem_pattern": False},
        "parallel operators": {"execution_mode": ort.ExecutionMode.ORT_PARALLEL},
    }
    contestants: Contestants = {}
    for name, change in changes.items():
        options = ort.SessionOptions()
        options.log_severity_level = 3
        for setting, value in {"intra_op_num_threads": threads, **change}.items():
            setattr(options, setting, value)
        session = ort.InferenceSession(str(path), options, providers=[CPU])
        contestants[name] = lambda x, session=session: session.run(None, {"image_seq": x})
    return contestants


def contestants_of(options: Namespace, batch_size: int, folder: Path) -> Contestants:
    torch.manual_seed(0)
    network = GaitSet().eval()
    path = folder / f"bs{batch_size}.onnx"
    export_onnx(network, path, batch_size, options.frame_num)
    runtime = OrtRuntime(path, options.threads)

    def in_torch(image_seq: np.ndarray) -> Tensor:
        with torch.inference_mode():
            return network(torch.from_numpy(image_seq))

    contestants: Contestants = {"torch": in_torch, "onnxruntime": runtime.run}
    if options.orders:
        forward = blocks.BasicConv2d.forward
        blocks.BasicConv2d.forward = activate_then_pool
        try:
            export_onnx(network, folder / "other.onnx", batch_size, options.frame_num)
        finally:
            blocks.BasicConv2d.forward = forward
        contestants["activation before pooling"] = OrtRuntime(folder / "other.onnx", options.threads).run
    if options.settings:
        contestants |= other_settings(path, runtime.threads)
    if options.cpu_time:  # the clock would not see the other threads
        contestants.pop("own choice of threads", None)
    return contestants


def measure(
    contestants: Contestants, image_seq: np.ndarray, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median seconds of a call."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for this_round in range(rounds + 1):
        for name, run in contestants.items():
            start = clock()
            run(image_seq)
            if this_round:  # the first one warms up
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--batch_sizes", type=positive, nargs="+", default=[1, 16])
    parser.add_argument("--frame_num", type=positive, default=100)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--threads", type=positive, help="of torch and of ONNX Runtime (each one's default)")
    parser.add_argument("--settings", action="store_true", help="also other settings of the session")
    parser.add_argument("--orders", action="store_true", help="also the graph with activation before pooling")
    parser.add_argument("--cpu_time", action="store_true", help="processor time of one thread, for a busy machine")
    options = parser.parse_args()
    clock = time.thread_time if options.cpu_time else time.perf_counter
    if options.cpu_time:
        options.threads = 1
    if options.threads:
        torch.set_num_threads(options.threads)
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch_size in options.batch_sizes:
            random = np.random.default_rng(0)
            image_seq = np.stack([walking_figure(options.frame_num, random) for _ in range(batch_size)])
            seconds = measure(contestants_of(options, batch_size, Path(folder)), image_seq, options.rounds, clock)
            for name, median in seconds.items():
                print(f"batch {batch_size:<3} {name:<26} {batch_size / median:8.2f} sequences/s {median * 1e3:9.1f} ms")
            figures = {
                name: {"sequences_per_second": round(batch_size / median, 3), "milliseconds": round(median * 1e3, 3)}
                for name, median in seconds.items()
            }
            report[batch_size] = {**figures, "ratio": round(seconds["torch"] / seconds["onnxruntime"], 3)}
    print(json.dumps({"frame_num": options.frame_num, "batch_size": report}))


if __name__ == "__main__":
    run_command(main)
