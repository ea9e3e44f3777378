"""Run a deployed model over a list of bins and report its throughput.

    python -m model.runtime --model gaitset_submit.onnx --info CASIA-B-bin.info --output result
    python -m model.runtime --runtime onnxruntime --model gaitset_submit_bs16.onnx --info CASIA-B-bin.info

Results go to OUTPUT/dumpOutput_device<ID>/, figures beside that folder, to
perf_vision_batchsize_<B>_device_<ID>.txt (the benchmark tool's format) and .json.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.command_line import CommandParser, positive
from model.errors import UsageError, run_command
from model.files import write_json


def main() -> None:
    options = _parser().parse_args()
    if options.runtime not in RUNTIMES:
        raise UsageError(f"--runtime {options.runtime}: no such runtime here, there is {', '.join(RUNTIMES)}")
    if options.device_id < 0:
        raise UsageError(f"--device_id {options.device_id}: must be 0 or more")
    summary = RUNTIMES[options.runtime](options, options.output / f"dumpOutput_device{options.device_id}")
    if options.json:
        write_json(options.json, summary)
    print(report(summary))


def report(summary: dict[str, Any]) -> str:
    """Throughput and latency of a summary of `run_info_list`, for people."""
    latency = summary["latency_ms"]
    return "\n".join(
        [
            f"runtime     {summary['version']}, {summary['provider']}, {summary['threads']} threads",
            f"model       {summary['model']}, batch size {summary['batch_size']}",
            f"sequences   {summary['sequences']} in {summary['seconds']:.2f} s",
            f"throughput  {summary['e2e_throughput']:.2f} sequences/s end to end, "
            f"{summary['inference_throughput']:.2f} inference alone",
            f"latency     {latency['mean']:.2f} ms mean, {latency['median']:.2f} median, "
            f"{latency['p99']:.2f} p99, a batch",
            f"results     {summary['result']}",
        ]
    )


def _onnxruntime(options: Namespace, result_folder: Path) -> dict[str, Any]:
    from model.runtime.info_list import run_info_list
    from model.runtime.ort_runtime import OrtRuntime

    runtime = OrtRuntime(options.model, options.threads)
    return run_info_list(
        runtime,
        options.info,
        result_folder,
        device_id=options.device_id,
        warmup=options.warmup,
        quiet=options.quiet,
    )


# Each takes the options and the folder for the results, and returns a summary that `report` can print.
RUNTIMES: dict[str, Callable[[Namespace, Path], dict[str, Any]]] = {"onnxruntime": _onnxruntime}


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m model.runtime", description=__doc__)
    parser.add_argument("--runtime", default="onnxruntime", help=f"one of: {', '.join(RUNTIMES)}")
    parser.add_argument("--model", type=Path, required=True, help="the deployed model, such as gaitset_submit.onnx")
    parser.add_argument("--info", type=Path, required=True, help="list of bins, `index path width height` a line")
    parser.add_argument("--output", type=Path, default=Path("result"), help="folder of the results (result)")
    parser.add_argument("--device_id", type=int, default=0, help="number of the device, part of the names (0)")
    parser.add_argument("--threads", type=positive, help="threads of one operator (one a core)")
    parser.add_argument("--warmup", type=positive, default=1, help="batches that run first, uncounted (1)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    run_command(main)
