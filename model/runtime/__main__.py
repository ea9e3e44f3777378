"""Run a deployed model over a list of bins and report its throughput.

    python -m model.runtime --model gaitset_submit --info CASIA-B-bin.info --output result
    python -m model.runtime --runtime benchmark --model gaitset_submit_bs16.om --info CASIA-B-bin.info
    python -m model.runtime --runtime onnxruntime --model gaitset_submit.onnx --info CASIA-B-bin.info

Without --runtime the om is run if it and something that runs it are here, else the ONNX file.
Results go to OUTPUT/dumpOutput_device<ID>/, figures beside that folder, to
perf_vision_batchsize_<B>_device_<ID>.txt (the benchmark tool's format) and .json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.common.command_line import CommandParser, positive
from model.common.errors import UsageError, run_command
from model.common.files import write_json


def main() -> None:
    from model.runtime.choice import choose
    from model.runtime.external_tool import Task
    from model.runtime.runners import run_list

    options = _parser().parse_args()
    if options.device_id < 0:
        raise UsageError(f"--device_id {options.device_id}: must be 0 or more")
    choice = choose(options.runtime, options.model)
    print(choice.why, flush=True)
    results = options.output / f"dumpOutput_device{options.device_id}"
    task = Task(choice.model, options.info, results, options.device_id, options.batch_size, options.quiet)
    summary = run_list(choice, task, options.threads, options.warmup)
    if options.json:
        write_json(options.json, summary)
    print(report(summary))
    print(f"next: python test.py --post_process --bin_path {options.info.with_suffix('')} --result_path {results}")


def report(summary: dict[str, Any]) -> str:
    """Throughput and latency of a run, for people."""
    threads = f", {summary['threads']} threads" if "threads" in summary else ""
    chip = f" {summary['chip']}" if summary.get("chip") else ""
    device = "inference alone" if summary["runtime"] == "onnxruntime" else "one chip alone"
    rates = [
        f"{value:.2f} sequences/s {what}"
        for value, what in ((summary["e2e_throughput"], "end to end"), (summary["device_throughput"], device))
        if value is not None
    ]
    latency = [f"{value:.2f} {name}" for name, value in summary["latency_ms"].items()]
    fillers = f" (and {summary['fillers']} that fill the last batch)" if summary.get("fillers") else ""
    lines = [
        f"runtime     {summary['version']}, {summary['provider']}{chip}{threads}",
        f"model       {summary['model']}, batch size {summary['batch_size']}",
        f"sequences   {summary['sequences']}{fillers} in {summary['seconds']:.2f} s",
        f"throughput  {', '.join(rates) or 'unknown'}",
        f"latency     {', '.join(latency) or 'unknown'} (ms a batch)",
        f"results     {summary['result']}",
    ]
    if summary.get("problem"):
        lines.append(f"warning: no figures: {summary['problem']}")
    return "\n".join(lines)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m model.runtime", description=__doc__)
    parser.add_argument(
        "--runtime", default="auto", help="auto, benchmark, ais_bench, acl (these run an om) or onnxruntime (auto)"
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="the om or ONNX file, or what both names begin with: gaitset_submit"
    )
    parser.add_argument("--info", type=Path, required=True, help="list of bins, `index path width height` a line")
    parser.add_argument("--output", type=Path, default=Path("result"), help="folder of the results (result)")
    parser.add_argument("--device_id", type=int, default=0, help="number of the device, part of the names (0)")
    parser.add_argument(
        "--batch_size", type=positive, help="of the om, for benchmark and ais_bench (16 in x_bs16.om, else 1)"
    )
    parser.add_argument("--threads", type=positive, help="of ONNX Runtime's operators (one a core)")
    parser.add_argument(
        "--warmup", type=positive, default=1, help="uncounted batches first, with acl and onnxruntime (1)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    run_command(main)
