"""Compare the throughput and latency of models on a CPU: exports of two other networks, our exports, and torch.

  python test/bench/deploy.py                       1 and 2 threads, batch sizes 1 and 16, and sequences of real lengths
  python test/bench/deploy.py --threads 2 --batch_sizes 1 --only whole --settings      session options we do not use
  python test/bench/deploy.py --threads 1 --cpu_time                                  on a machine that runs other jobs
  python test/bench/deploy.py --threads 1 --batch_sizes 1 --frame_num 4 --rounds 1 --lengths 3 5           a quick check

  ModelZoo      the graph of the NPU port: activation before pooling, frames of all sequences on one axis
  OpenGait      the same layers, with maps transposed to [n, c, s, h, w] after each block, as in OpenGait
  static        our export for ATC with --frame_num frames, run by ONNX Runtime
  whole, int8   our exports for uint8 input and any number of frames, with set layers in float32 (whole) or int8
  torch         the network as test.py runs it

Each model runs in its own process, because the threads of one session would slow down other sessions. The processes
take turns. All models start from uint8 pixels. Weights are random, because the time does not depend on the weights. The
row `lengths` runs one sequence at a time, with the lengths of sequences of ten real people (CASIA-A: 37 to 127 frames,
82.8 on average). Static models pad or truncate these sequences to --frame_num. The last line is JSON.
"""

import itertools
import statistics
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measuring import report

from model.common.command_line import CommandParser, positive
from model.common.errors import run_command
from model.export.input_files import fixed_length

# The lengths of 20 of the 120 sequences of ten people, evenly spaced in the order of their lengths.
LENGTHS = (51, 55, 59, 60, 63, 66, 71, 78, 81, 83, 86, 89, 91, 94, 97, 101, 103, 105, 109, 116)
MODELS = ("ModelZoo", "OpenGait", "static", "whole", "int8", "torch")
SETTINGS = {
    "optimization basic": {"graph_optimization_level": 1},
    "optimization extended": {"graph_optimization_level": 2},
    "no memory arena": {"enable_cpu_mem_arena": False},
    "no memory pattern": {"enable_mem_pattern": False},
    "parallel operators": {"execution_mode": 1},
    "no spinning": {"session.intra_op.allow_spinning": "0"},
    "threads pinned": {"session.intra_op_thread_affinities": "2"},
}


class Job(NamedTuple):
    """One model to measure: its file (None: torch), the number of threads, and changed options of its session."""

    name: str
    path: Path | None
    threads: int
    setting: dict = {}  # noqa: RUF012, it is never modified


def export_original(path: Path, transposed: bool, batch_size: int, frame_num: int) -> None:
    """Export the network of ModelZoo, or the network of OpenGait if `transposed`; see the module's docstring."""
    import torch
    from opengait_network import TheirGaitSet

    network, example = TheirGaitSet(256, transposed=transposed).eval(), torch.zeros(batch_size, frame_num, 64, 44)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (example,), path, dynamo=False, opset_version=11, input_names=["image_seq"])


def export_all(folder: Path, batch_size: int, options: Namespace) -> dict[str, Path | None]:
    import torch

    from model.export.onnx_export import export_onnx
    from model.export.variable_length import export_int8, export_variable_length
    from model.network import GaitSet
    from model.runtime.ort_runtime import OrtRuntime
    from model.runtime.variable_length_runtime import VariableLengthRuntime

    torch.manual_seed(0)
    network = GaitSet().eval()
    sils = figures(5, options.frame_num)
    making: dict[str, Callable[[Path], object]] = {
        "ModelZoo": lambda path: export_original(path, False, batch_size, options.frame_num),
        "OpenGait": lambda path: export_original(path, True, batch_size, options.frame_num),
        "static": lambda path: export_onnx(network, path, batch_size, options.frame_num, runtime=OrtRuntime),
        "whole": lambda path: export_variable_length(network, path, runtime=VariableLengthRuntime),
        "int8": lambda path: export_int8(
            network, path, sils[:4], sils[4:], partial(VariableLengthRuntime, check=False)
        ),
    }
    paths: dict[str, Path | None] = {name: None for name in MODELS if name in options.only}
    for name in paths.keys() & making.keys():
        paths[name] = folder / f"{name}-{batch_size}.onnx"
        making[name](paths[name])
    return paths


def figures(count: int, frame_num: int) -> list[np.ndarray]:
    from model.export.onnx_export import walking_pixels

    random = np.random.default_rng(0)
    return [walking_pixels(frame_num, random) for _ in range(count)]


def runner(job: Job) -> Callable[[np.ndarray], np.ndarray]:
    """Open the model of `job`. Return a function from pixels, uint8 [n, s, 64, 44], to embeddings."""
    if job.path is None:
        import torch

        from model.devices.device import to_device
        from model.embeddings.extract import embed_sequences
        from model.network import GaitSet

        torch.set_num_threads(job.threads)
        cpu = torch.device("cpu")
        network = to_device(GaitSet().eval(), cpu)
        return lambda sils: embed_sequences(
            network, torch.from_numpy(sils).flatten(0, 1), [sils.shape[1]] * len(sils), cpu
        ).numpy()
    from model.common.onnx_runtime import import_onnxruntime

    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = job.threads
    kinds = {"graph_optimization_level": ort.GraphOptimizationLevel, "execution_mode": ort.ExecutionMode}
    for key, value in job.setting.items():
        if "." not in key:
            setattr(options, key, kinds.get(key, bool)(value))
        elif job.threads > 1:  # the two options with a dot only affect additional threads
            options.add_session_config_entry(key, value)
    session = ort.InferenceSession(str(job.path), options, providers=["CPUExecutionProvider"])
    pixels = session.get_inputs()[0]
    if pixels.type == "tensor(uint8)":
        return lambda sils: session.run(["feature"], {pixels.name: sils})[0]

    def static(sils: np.ndarray) -> np.ndarray:
        fixed = np.stack([fixed_length(each, pixels.shape[1]) for each in sils]).astype(np.float32) / 255
        return session.run(None, {pixels.name: fixed})[0]

    return static


def open_model(job: Job) -> None:
    """Open the model of a worker process."""
    global run
    run = runner(job)


def seconds_of(batches: list[np.ndarray], clock: Callable[[], float]) -> list[float]:
    """Run batches in a worker process. Return the seconds of each batch."""
    run(batches[0])  # warm up, because other processes have used the caches since the last turn
    ends = [clock()]
    for batch in batches:
        run(batch)
        ends.append(clock())
    return np.diff(ends).tolist()


def measure(
    jobs: list[Job], batches: list[np.ndarray], rounds: int, clock: Callable[[], float]
) -> dict[str, dict[str, float]]:
    """Return for each model the sequences per second of the median round, and two percentiles of the time per batch."""
    with ExitStack() as stack:
        workers = {
            job.name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), open_model, (job,)))
            for job in jobs
        }
        turns = [
            {name: worker.submit(seconds_of, batches, clock).result() for name, worker in workers.items()}
            for _ in range(rounds)
        ]
    sequences = sum(len(batch) for batch in batches)
    result = {}
    for name in workers:
        found = [seconds[name] for seconds in turns]
        p50, p99 = np.percentile(np.concatenate(found), (50, 99)) * 1000
        rate = sequences / statistics.median(map(sum, found))
        result[name] = {"sequences_per_second": round(rate, 2), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}
    return result


def jobs_of(paths: dict[str, Path | None], threads: int, options: Namespace) -> list[Job]:
    jobs = [Job(name, path, threads) for name, path in paths.items()]
    if options.settings:
        jobs += [Job(f"{job.name}, {name}", job.path, threads, setting) for job in jobs if job.path
                 for name, setting in SETTINGS.items()]  # fmt: skip
    return jobs


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--threads", type=positive, nargs="+", default=[1, 2], help="numbers of threads per session")
    parser.add_argument("--batch_sizes", type=positive, nargs="+", default=[1, 16], help="batch sizes to measure")
    parser.add_argument("--frame_num", type=positive, default=100, help="frames per sequence, except in row `lengths`")
    parser.add_argument("--lengths", type=positive, nargs="*", default=LENGTHS,
                        help="numbers of frames for the row `lengths`; no numbers: skip the row")  # fmt: skip
    parser.add_argument("--rounds", type=positive, default=7, help="number of turns of each model")
    parser.add_argument("--calls", type=positive, default=6, help="number of batches of size 1 per round")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS, metavar="NAME", help="models to measure")
    parser.add_argument("--cpu_time", action="store_true", help="measure processor time, including waiting threads, "
                        "instead of elapsed time; with one thread, other jobs hardly change it")  # fmt: skip
    parser.add_argument("--settings", action="store_true", help="also measure sessions with one changed option")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    inputs = {f"batch {size}": [np.stack(figures(size, options.frame_num))] for size in options.batch_sizes}
    if "batch 1" in inputs:
        inputs["batch 1"] *= options.calls
    if options.lengths:
        inputs["lengths"] = [figures(1, length)[0][None] for length in options.lengths]
    runs: dict[str, dict] = {}
    print("| threads | input | model | sequences/s | ratio | p50 ms | p99 ms |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        paths = {size: export_all(Path(folder), size, options) for size in {1, *options.batch_sizes}}
        for threads, (name, batches) in itertools.product(options.threads, inputs.items()):
            found = measure(jobs_of(paths[len(batches[0])], threads, options), batches, options.rounds, clock)
            runs[f"threads {threads}, {name}"] = found
            first = next(iter(found.values()))["sequences_per_second"]
            for model, (rate, p50, p99) in ((model, its.values()) for model, its in found.items()):
                print(f"| {threads} | {name} | {model} | {rate:.2f} | {rate / first:.2f} | {p50:.1f} | {p99:.1f} |")
    report("deployed models", frame_num=options.frame_num, lengths=list(options.lengths), runs=runs)


if __name__ == "__main__":
    run_command(main)
