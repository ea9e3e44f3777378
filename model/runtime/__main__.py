"""Run a deployed model on a list of input files and report its throughput.

    python -m model.runtime --model gaitset_submit --info CASIA-B-bin.info --output result
    python -m model.runtime --runtime benchmark --model gaitset_submit_bs16.om --info CASIA-B-bin.info
    python -m model.runtime --runtime onnxruntime --model gaitset_submit.onnx --info CASIA-B-bin.info
    python -m model.runtime --model gaitset_submit_bs16 --loop 100            pure inference, without input files
    python -m model.runtime --model gaitset_submit --info CASIA-B-bin.info --device_id 0,1,2,3       all chips of a card
    python -m model.runtime --model gaitset_submit.om --info CASIA-B-bin.info --compare gaitset_submit.onnx

Without --runtime, the om file is used if it exists and a runtime for it is installed. Otherwise the ONNX file is used.
Results are written to OUTPUT/dumpOutput_device<ID>/. Performance figures are written to
OUTPUT/perf_vision_batchsize_<B>_device_<ID>.txt, in the format of the benchmark tool, and to a .json file of the same
name. With several devices, each device runs a share of the list, and the result folder of the first device receives
all results. ais_bench divides the list itself if it can. Otherwise each device is used by a separate process.
"""

import shlex
from pathlib import Path
from typing import Any

from model.common.command_line import CommandParser, positive
from model.common.errors import UsageError, run_command
from model.common.json_files import write_json
from model.common.messages import set_up_logging


def main() -> None:
    from model.runtime.chips import parse_device_ids, run_on_chips
    from model.runtime.choice import choose
    from model.runtime.runners import run_and_record
    from model.runtime.task import Task

    options = _parser().parse_args()
    set_up_logging(options.quiet)
    device_ids, loop = parse_device_ids(options.device_id), options.loop
    if options.info is None and loop is None:
        raise UsageError("--info: missing; give the list of input files, or --loop N for pure inference")
    if options.compare is not None and (options.info is None or loop is not None or len(device_ids) > 1):
        advice = "give --info and one --device_id, and not --loop"
        raise UsageError(f"--compare: compares the results of input files on one device; {advice}")
    choice = choose(options.runtime, options.model)
    print(choice.why, flush=True)
    task = Task(
        choice.runtime, choice.model, options.info if loop is None else None,
        options.output / f"dumpOutput_device{device_ids[0]}", device_ids[0], options.batch_size, options.quiet,
        threads=options.threads, warmup=options.warmup, loop=loop or 1,
    )  # fmt: skip
    if options.compare is not None:
        from model.runtime.comparison import compare, report_comparison

        summary = compare(task, options.compare, options.limit)
        lines = [report_comparison(summary)]
    else:
        if len(device_ids) > 1 and task.runtime == "onnxruntime":
            print(f"note: --device_id {options.device_id} has no effect, because ONNX Runtime uses the CPU", flush=True)
        several = len(device_ids) > 1 and task.runtime != "onnxruntime"
        summary = run_on_chips(task, device_ids) if several else run_and_record(task)
        lines = [report(summary)]
        if task.info:
            lines.append(f"next: {_next_command(task.info, task.result_folder)}")
    if options.json:
        write_json(options.json, summary)
    print("\n".join(lines))


def _next_command(info: Path, results: Path) -> str:
    """Return the command that evaluates the results. The data set is taken from the manifest, if there is a manifest.

    A list that was written by hand has no manifest.
    """
    from model.export.manifest import manifest_path, read_manifest

    bins = info.with_suffix("")
    manifest = manifest_path(bins)
    dataset = read_manifest(manifest).settings.get("dataset") if manifest.is_file() else ""
    named = ["--dataset", dataset] if dataset else []
    places = ["--bin_path", str(bins), "--result_path", str(results)]
    return shlex.join(["python", "test.py", "--post_process", *named, *places])


def report(summary: dict[str, Any]) -> str:
    """Format the throughput and latency of a run as text."""
    devices = summary.get("devices")
    threads = f", {summary['threads']} threads" if "threads" in summary else ""
    chip = f" {summary['chip']}" if summary.get("chip") else ""
    counted = "inference only" if summary["runtime"].startswith("onnxruntime") else "one chip only"
    counted = f"sum of {len(devices)} chips" if devices else counted
    rates = [
        f"{value:.2f} sequences/s {what}"
        for value, what in ((summary["e2e_throughput"], "end to end"), (summary["device_throughput"], counted))
        if value is not None
    ]
    latency = ", ".join(f"{value:.2f} {name}" for name, value in summary["latency_ms"].items())
    last = "last batch of each chip" if devices else "last batch"
    fillers = f" (and {summary['fillers']} fillers in the {last})" if summary.get("fillers") else ""
    lines = [
        f"runtime     {summary['version']}, {summary['provider']}{chip}{threads}",
        f"model       {summary['model']}, batch size {summary['batch_size']}",
        f"sequences   {summary['sequences']}{fillers} in {summary['seconds']:.2f} s",
        f"throughput  {', '.join(rates) or 'unknown'}",
        *(map(_device_line, devices) if devices else [f"latency     {latency or 'unknown'} (ms per batch)"]),
    ]
    if summary["result"]:
        lines.append(f"results     {summary['result']}")
    if summary.get("problem"):
        lines.append(f"warning: no performance figures: {summary['problem']}")
    return "\n".join(lines)


def _device_line(summary: dict[str, Any]) -> str:
    rate, mean = summary["device_throughput"], summary["latency_ms"].get("mean")
    rate_text = "throughput unknown" if rate is None else f"{rate:.2f} sequences/s"
    latency = "" if mean is None else f", {mean:.2f} ms per batch"
    return f"device {summary['device_id']:<4} {summary['sequences']} sequences, {rate_text}{latency}"


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m model.runtime", description=__doc__)
    add = parser.add_argument
    add("--runtime", default="auto", help="runtime: onnxruntime for ONNX files, benchmark, ais_bench or acl for om "
        "files, or auto to select a runtime that is installed. Default: auto")  # fmt: skip
    add("--model", type=Path, required=True, help="om or ONNX file, or the common part of the names of an om and an "
        "ONNX file, such as gaitset_submit")  # fmt: skip
    add("--info", type=Path, help="list of input files, one `index path width height` per line; required without "
        "--loop")  # fmt: skip
    add("--loop", type=positive, metavar="N", help="measure the model with N batches of zeros. This reads no input "
        "files and writes no results")  # fmt: skip
    add("--output", type=Path, default=Path("result"), help="folder of the results. Default: result")
    add("--device_id", default="0", metavar="ID[,ID...]", help="number of the device, or numbers of several devices "
        "that share the list. The first number is part of the name of the result folder. Default: 0")  # fmt: skip
    add("--batch_size", type=positive, help="batch size of the om file, for benchmark and ais_bench. Default: the "
        "number in the file name, such as 16 for x_bs16.om, or 1 if the name has none")  # fmt: skip
    add("--threads", type=positive, help="number of threads of ONNX Runtime. Default: one per core")
    add("--warmup", type=positive, default=1, help="number of batches to run before the measurement, for acl and "
        "onnxruntime. Default: 1")  # fmt: skip
    add("--compare", type=Path, metavar="FILE.onnx", help="instead of the performance, report how much the results "
        "of --model differ from the results of this ONNX file")  # fmt: skip
    add("--limit", type=positive, default=220, metavar="N", help="maximum number of sequences for --compare. Default: "
        "220")  # fmt: skip
    add("--json", type=Path, help="also write the summary to this file")
    add("--quiet", action="store_true", help="disable the progress bar")
    return parser


if __name__ == "__main__":
    run_command(main)
