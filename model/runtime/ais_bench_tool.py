"""Run an om file with Ascend's `ais_bench`, or with `msit benchmark` if only that is installed.

The module `ais_bench` may belong to another Python because its wheels exist for few versions. $AIS_BENCH_PYTHON
selects the interpreter.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.common.files import is_file
from model.common.json_files import write_json
from model.common.schema import read_checked
from model.runtime.external_tool import ToolError, figures_of, run_tool, summary_of
from model.runtime.performance_files import performance_path
from model.runtime.staging import Task, accepted_path, collect, staged, staged_om

VARIABLE = "AIS_BENCH_PYTHON"
_SUFFIX = "_0"  # ais_bench numbers outputs from 0
_SUMMARY = "_summary"  # follows the name of the output folder in that of its JSON file
# Checks for the submodule `infer` because a tool for language models is also called ais_bench.
_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('ais_bench.infer') is None)"


def find_ais_bench() -> list[str]:
    """Return the start of the command: `python -m ais_bench` or `msit benchmark`.

    Tries $AIS_BENCH_PYTHON, or this Python, python3 and the Python of msit. Raises UserError if none is found.
    """
    given = os.environ.get(VARIABLE)
    for python in [given] if given else _pythons():
        if _has_ais_bench(python):
            return [python, "-m", "ais_bench"]
    if given:
        raise UserError(f"{VARIABLE}={given}: not a Python with the module ais_bench; install its wheels there")
    if shutil.which("msit"):
        return [shutil.which("msit"), "benchmark"]
    raise UserError(
        f"ais_bench not found in {sys.executable} or python3, and no msit on the PATH; set {VARIABLE} to the "
        "Python with ais_bench, or use --runtime benchmark or acl"
    )


def ais_bench_command(beginning: list[str], options: dict[str, Any], dashes: bool = False) -> list[str]:
    """Build the documented command.

    Args:
        options: values by the documented names of the options. The value of a switch is True.
        dashes: use the option names and switches of the newest version. msit has other names.
    """
    renamed = {"--output_dirname": "--output-dirname", "--divide_input": "--divide-input"} if dashes else {}
    if beginning[-1] == "benchmark":
        renamed = {"--model": "--om-model", "--output_dirname": "--output-dirname", "--batchsize": "--batch-size",
                   "--divide_input": "--divide-input"}  # fmt: skip
    words = list(beginning)
    for option, value in options.items():
        words.append(renamed.get(option, option))
        if value is not True or not dashes:  # older versions need `1` after a switch
            words.append("1" if value is True else str(value))
    return words


def run_ais_bench(task: Task) -> dict[str, Any]:
    """Run the list, write results, `<results>_summary.json` and a log, and return the summary.

    The tool does not report end-to-end throughput, so it is None. `seconds` is the duration of the whole command
    including the loading of the om file.

    Raises:
        UserError: if the om file has a different batch size than the task.
    """
    [summary] = run_on_devices(task, [task.device_id])
    write_json(performance_path(task.result_folder.parent, task.batch(), task.device_id).with_suffix(".json"), summary)
    return summary


def run_on_devices(task: Task, device_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Run the list with one command, which divides it between the devices, and return a summary per device.

    The tool gives each device an equal number of files in the order of the list, one more to the first ones if they
    do not divide evenly, and fills the last batch of each device. Raises UserError as `run_ais_bench` does.
    """
    beginning, parent, several = find_ais_bench(), task.result_folder.parent, len(device_ids) > 1
    devices = f"devices_{'_'.join(map(str, device_ids))}" if several else f"device_{task.device_id}"
    log = parent.absolute() / f"ais_bench_batchsize_{task.batch()}_{devices}.log"
    with staged(task, fill=not several) as stage:
        options = {"--input": stage.bins, "--outfmt": "BIN", "--batchsize": task.batch()}
        options |= {"--divide_input": True} if several else {}
        output, seconds, folder = _run(beginning, stage.om, options, log, task, device_ids)
        reported = re.search(r"filesperbatch:(\d+)", output)
        _check_batch(task, int(reported[1]) if reported else None)
        folders = [folder / f"device{number}_{i}" for i, number in enumerate(device_ids)] if several else [folder]
        results = {stem: file for part in folders for stem, file in _results(part, stage.stems).items()}
        collect(_tool(beginning), results, stage, task.result_folder, log)
        summaries = []
        for i, (number, part) in enumerate(zip(device_ids, folders, strict=True)):
            share = f"_share{number}" if several else ""
            target = task.result_folder.with_name(f"{task.result_folder.name}{share}{_SUMMARY}.json")
            figures = figures_of("ais_bench", _summary_path(part), target, None if several else log)
            count = len(stage.stems) // len(device_ids) + (i < len(stage.stems) % len(device_ids))
            own = task._replace(device_id=number)
            summaries.append(summary_of(own, _tool(beginning), figures, seconds, count, -count % task.batch()))
    return summaries


def measure_ais_bench(task: Task, loop: int) -> dict[str, Any]:
    """Run `loop` batches of zeros, write the tool's summary and a log next to the results, and return the summary.

    Raises:
        UserError: if the om file has a different batch size than the task.
    """
    beginning, parent = find_ais_bench(), task.result_folder.parent
    stem = f"ais_bench_pure_batchsize_{task.batch()}_device_{task.device_id}"
    log = parent.absolute() / f"{stem}.log"
    with staged_om(task) as om:  # without --batchsize, the tool reads it from the om file
        _, seconds, folder = _run(beginning, om, {"--loop": loop}, log, task, [task.device_id])
        figures = figures_of("ais_bench", _summary_path(folder), parent / f"{stem}{_SUMMARY}.json", log)
        _check_batch(task, figures.batch_size)
    return summary_of(task, _tool(beginning), figures, seconds, loop * task.batch())


def _tool(beginning: list[str]) -> str:
    return "msit benchmark" if beginning[-1] == "benchmark" else "ais_bench"


def _summary_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_SUMMARY}.json")


def _run(
    beginning: list[str], om: Path, options: dict[str, Any], log: Path, task: Task, device_ids: Sequence[int]
) -> tuple[str, float, Path]:
    """Run the command, and again with the option names of the newest version if the tool does not know the others.

    Returns:
        The output, the duration in seconds, and the folder of the results.
    """
    # Newer versions reject an output folder name that exists in their working directory with usual permissions.
    name = f"{om.parent.name}_results"
    devices = ",".join(map(str, device_ids))
    common = {"--model": om, "--output": om.parent, "--output_dirname": name, "--device": devices}
    folder = Path.cwd()
    if not accepted_path(folder):  # newer versions check the path that --output_dirname has in the working directory
        beginning = [str(folder / part) if "/" in part else part for part in beginning]
        folder = om.parent
    command = ais_bench_command(beginning, common | options)
    try:
        output, seconds = run_tool(_tool(beginning), command, folder, log, task)
    except ToolError as error:
        if "No such option" not in error.output:
            raise
        command = ais_bench_command(beginning, common | options, dashes=True)
        output, seconds = run_tool(_tool(beginning), command, folder, log, task)
    return output, seconds, om.parent / name


def _pythons() -> Iterator[str]:
    yield sys.executable
    if on_path := shutil.which("python3"):
        yield on_path
    if msit := shutil.which("msit"):
        with Path(msit).open("rb") as script:
            words = script.readline(300).decode(errors="replace").removeprefix("#!").split()
        if words and Path(words[0]).name == "env":
            words = words[1:]
        if words and Path(words[0]).name.startswith("python"):
            yield words[0]


def _has_ais_bench(python: str) -> bool:
    """Check in a subprocess because it may be another Python, and the result must match that of `-m`."""
    try:
        return subprocess.run([python, "-c", _PROBE], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _check_batch(task: Task, found: int | None) -> None:
    """Compare with the batch size that the tool reads from the om file: its option affects only the throughput."""
    if found is not None and found != task.batch():
        raise UserError(
            f"{task.om}: its batch size is {found}, not {task.batch()}; use --batch_size {found} or the om file for "
            f"batch size {task.batch()}"
        )


def _results(folder: Path, stems: list[str]) -> dict[str, Path]:
    """Return the result file by input stem, from the tool's summary or, if not listed there, from its naming rule."""
    results = {stem: folder / f"{stem}{_SUFFIX}.bin" for stem in stems}
    if _summary_path(folder).is_file():
        results |= {
            Path(bin_file).stem: folder / Path(result).name for bin_file, result in _pairs(_summary_path(folder))
        }
    return {stem: file for stem, file in results.items() if is_file(file)}


def _pairs(written: Path) -> Iterator[tuple[str, str]]:
    """Yield the input and result file of each sequence in the tool's summary.json. A damaged one yields nothing."""
    schema = {"filesinfo": {str: {"infiles": [str], "outfiles": [str]}}}
    try:
        listed = read_checked(written, schema, "no list of files", "the naming rule applies")["filesinfo"]
    except UserError:
        return
    for files in listed.values():
        if len(files["infiles"]) == len(files["outfiles"]) == 1:
            yield files["infiles"][0], files["outfiles"][0]
