"""Ascend's `benchmark.x86_64` (on ARM `benchmark.aarch64`), which runs an om over an .info list.

The arguments, names and formats are those of the model zoo's documents; the program itself is closed. It writes
result/ into the folder where it runs.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.common.files import write_json
from model.runtime.external_tool import Task, collect, run_tool, staged, summary_of
from model.runtime.performance_files import Figures, performance_path, read_figures

VARIABLE = "BENCHMARK_TOOL"
_SUFFIXES = ("_1", "_0")  # it counts outputs from 1; some documents read _0
_PROCESSORS = {"amd64": "x86_64", "arm64": "aarch64"}


def tool_name() -> str:
    machine = platform.machine().lower()
    return f"benchmark.{_PROCESSORS.get(machine, machine)}"


def find_benchmark(om: Path) -> Path:
    """The tool: $BENCHMARK_TOOL (a file, or the folder it is in), this folder, that of the om, PATH.

    Raises UserError when it is in none of them, or not executable.
    """
    name, given = tool_name(), os.environ.get(VARIABLE)
    if given:
        places = [Path(given) / name if Path(given).is_dir() else Path(given)]
    else:
        on_path = shutil.which(name)
        places = [Path(name), om.parent / name, *([Path(on_path)] if on_path else [])]
    found = next((place.absolute() for place in places if place.is_file()), None)
    if found is None:
        where = f"as {VARIABLE}={given}" if given else f"here, beside {om}, on the PATH"
        raise UserError(
            f"no {name} found (looked {where}); set {VARIABLE} to its path, or try --runtime ais_bench or acl"
        )
    if not os.access(found, os.X_OK):
        raise UserError(f"{found}: is not executable; chmod +x {found}")
    return found


def benchmark_command(tool: Path, om: Path, info: Path, batch_size: int, device_id: int) -> list[str]:
    """As the documents have it: single dashes, key=value."""
    return [
        str(tool),
        "-model_type=vision",
        f"-device_id={device_id}",
        f"-batch_size={batch_size}",
        f"-om_path={om}",
        f"-input_text_path={info}",
        "-input_width=64",
        "-input_height=64",
        "-output_binary=True",
        "-useDvpp=False",
    ]


def run_benchmark(task: Task) -> dict[str, Any]:
    """Run the list; results, performance file and log appear as `benchmark` names them. Returns the summary.

    A performance file that cannot be understood does not cost the results: the summary then names the problem.
    """
    tool = find_benchmark(task.om)
    batch_size, place = task.batch(), task.result_folder.parent
    log = place.absolute() / f"benchmark_batchsize_{batch_size}_device_{task.device_id}.log"
    with staged(task) as (entries, stage):
        # Relative to the folder it works in: a list is split at blanks, and who knows about the arguments.
        om, info = stage.om.relative_to(stage.folder), stage.info.relative_to(stage.folder)
        command = benchmark_command(tool, om, info, batch_size, task.device_id)
        _, seconds = run_tool(tool.name, command, stage.folder, log, task)
        written = stage.folder / "result"
        dumped = written / f"dumpOutput_device{task.device_id}"
        found = {stem: file for stem in stage.stems for file in _results(dumped, stem)}
        collect(tool.name, found, entries, stage, task.result_folder, log)
        performance = performance_path(place, batch_size, task.device_id)
        figures = _figures(performance_path(written, batch_size, task.device_id), performance)
        summary = summary_of(task, tool.name, entries, stage, figures, seconds)
    write_json(performance.with_suffix(".json"), summary)
    return summary


def _results(folder: Path, stem: str) -> list[Path]:
    return [file for suffix in _SUFFIXES if (file := folder / f"{stem}{suffix}.bin").is_file()][:1]


def _figures(written: Path, target: Path) -> Figures:
    if not written.is_file():
        return Figures("benchmark", None, None, None, problem=f"benchmark left no {written.name}")
    shutil.copyfile(written, target)
    try:
        return read_figures(target)
    except UserError as error:
        return Figures("benchmark", None, None, None, source=str(target), problem=str(error))
