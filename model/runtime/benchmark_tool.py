"""Run an om file with Ascend's `benchmark.x86_64` (on ARM `benchmark.aarch64`).

The arguments, names and formats follow the documents of the model zoo, because the program is closed source. It
writes result/ in its working directory.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.common.json_files import write_json
from model.runtime.external_tool import figures_of, run_tool, summary_of
from model.runtime.performance_files import performance_path
from model.runtime.staging import Task, collect, staged, staged_om

VARIABLE = "BENCHMARK_TOOL"
_SUFFIXES = ("_0", "_1")  # it numbers outputs from 1; some documents use _0
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
        raise UserError(f"{name} not found in {where}; set {VARIABLE} to its path, or use --runtime ais_bench or acl")
    if not os.access(tool, os.X_OK):
        raise UserError(f"{tool}: not executable; run chmod +x {tool}")
    return tool


def benchmark_command(tool: Path, om: Path, info: Path, batch_size: int, device_id: int) -> list[str]:
    """Build the documented command, with single dashes and key=value."""
    return [
        str(tool), "-model_type=vision", f"-device_id={device_id}", f"-batch_size={batch_size}", f"-om_path={om}",
        f"-input_text_path={info}", "-input_width=64", "-input_height=64", "-output_binary=True", "-useDvpp=False",
    ]  # fmt: skip


def run_benchmark(task: Task) -> dict[str, Any]:
    """Run the list, write results, performance file and log under the names of `benchmark`, and return the summary.

    If the performance file cannot be parsed, the results are kept and the summary describes the problem.
    """
    tool = find_benchmark(task.om)
    batch_size, parent = task.batch(), task.result_folder.parent
    log = parent.absolute() / f"benchmark_batchsize_{batch_size}_device_{task.device_id}.log"
    with staged(task) as stage:
        # Paths relative to the working directory, because the tool splits lists, and possibly arguments, at blanks.
        om, info = stage.om.relative_to(stage.folder), stage.info.relative_to(stage.folder)
        command = benchmark_command(tool, om, info, batch_size, task.device_id)
        _, seconds = run_tool(tool.name, command, stage.folder, log, task)
        written = stage.folder / "result"
        dumped = written / f"dumpOutput_device{task.device_id}"
        paths = ((stem, dumped / f"{stem}{suffix}.bin") for suffix in _SUFFIXES for stem in stage.stems)
        results = {stem: file for stem, file in paths if file.is_file()}
        collect(tool.name, results, stage, task.result_folder, log)
        performance = performance_path(parent, batch_size, task.device_id)
        figures = figures_of("benchmark", performance_path(written, batch_size, task.device_id), performance)
        summary = summary_of(task, tool.name, figures, seconds, len(stage.stems), stage.fillers)
    write_json(performance.with_suffix(".json"), summary)
    return summary


def measure_benchmark(task: Task, loop: int) -> dict[str, Any]:
    """Run `loop` batches of zeros, write the performance file and a log next to the results, and return the summary."""
    tool, parent = find_benchmark(task.om), task.result_folder.parent
    log = parent.absolute() / f"benchmark_pure_batchsize_{task.batch()}_device_{task.device_id}.log"
    with staged_om(task) as om:
        command = [str(tool), f"-round={loop}", f"-om_path={om.name}"]
        command += [f"-device_id={task.device_id}", f"-batch_size={task.batch()}"]
        _, seconds = run_tool(tool.name, command, om.parent, log, task)
        name = f"PureInfer_perf_of_{om.stem}_in_device_{task.device_id}.txt"
        figures = figures_of("benchmark", om.parent / "result" / name, parent / name, log, task.batch())
    return summary_of(task, tool.name, figures, seconds, loop * task.batch())
