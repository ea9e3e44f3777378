"""Run an om file with Ascend's tool benchmark: `benchmark.x86_64`, or `benchmark.aarch64` on ARM.

The arguments, file names and formats follow the documents of the model zoo, because the source of the tool is not
public. The tool writes the folder result/ to its working directory.
"""

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.runtime.external_tool import figures_of, run_tool, summary_of
from model.runtime.staging import INFO, collect, staged
from model.runtime.task import Task

VARIABLE = "BENCHMARK_TOOL"
_SUFFIXES = ("_0", "_1")  # the tool numbers outputs from 1, but some documents show _0
_PROCESSORS = {"amd64": "x86_64", "arm64": "aarch64"}


def tool_name() -> str:
    machine = platform.machine().lower()
    return f"benchmark.{_PROCESSORS.get(machine, machine)}"


def find_benchmark(om: Path) -> Path:
    """Find the tool in $BENCHMARK_TOOL (a file or folder), the working directory, the om file's folder or PATH.

    Raises UserError if it is in none of them or not executable.
    """
    name, given = tool_name(), os.environ.get(VARIABLE)
    if given:
        candidates = [Path(given) / name if Path(given).is_dir() else Path(given)]
    else:
        on_path = shutil.which(name)
        candidates = [Path(name), om.parent / name, *([Path(on_path)] if on_path else [])]
    tool = next((path.absolute() for path in candidates if path.is_file()), None)
    if tool is None:
        where = f"{VARIABLE}={given}" if given else f"the working directory, the folder of {om} or the PATH"
        raise UserError(
            f"{name} not found in {where}; set {VARIABLE} to the path of the tool, or use --runtime ais_bench or acl"
        )
    if not os.access(tool, os.X_OK):
        raise UserError(f"{tool}: not executable; run chmod +x {tool}")
    return tool


def benchmark_command(tool: Path, om: str, task: Task) -> list[str]:
    """Build the command line of the documents, whose options have the form -key=value.

    The paths of `om` and of the list are relative to the working directory of the tool. An absolute path could contain
    blanks, at which the tool splits the lines of lists, and possibly arguments.
    """
    device, batch, om = f"-device_id={task.device_id}", f"-batch_size={task.batch()}", f"-om_path={om}"
    if task.info is None:
        return [str(tool), f"-round={task.loop}", om, device, batch]
    return [
        str(tool), "-model_type=vision", device, batch, om, f"-input_text_path={INFO}",
        "-input_width=64", "-input_height=64", "-output_binary=True", "-useDvpp=False",
    ]  # fmt: skip


def run_benchmark(task: Task) -> dict[str, Any]:
    """Run the list or pure inference, write the results, the performance file and the log, and return the summary.

    Results and performance file keep the names that benchmark gives them. If the performance file cannot be parsed,
    the results are kept, and `problem` in the summary describes the error.
    """
    tool, kind = find_benchmark(task.model), "benchmark" if task.info else "benchmark_pure"
    log = task.next_to_results(f"{kind}_batchsize_{task.batch()}_device_{task.device_id}.log").absolute()
    with staged(task) as stage:
        command = benchmark_command(tool, stage.om.name, task)
        _, seconds = run_tool(tool.name, command, stage.folder, log, task)
        written = stage.folder / "result"
        if task.info:
            name = task.summary_path(task.batch()).with_suffix(".txt").name
            dumped = written / f"dumpOutput_device{task.device_id}"
            paths = ((stem, dumped / f"{stem}{suffix}.bin") for suffix in _SUFFIXES for stem in stage.sources)
            collect(tool.name, {stem: file for stem, file in paths if file.is_file()}, stage, task.result_folder, log)
        else:
            name = f"PureInfer_perf_of_{stage.om.stem}_in_device_{task.device_id}.txt"
        figures = figures_of(task, written / name, task.next_to_results(name), None if task.info else log)
    sequences = len(stage.sources) or task.loop * task.batch()
    return summary_of(task, tool.name, figures, seconds, sequences, stage.fillers)
