"""Run an om file with Ascend's `ais_bench`, or with `msit benchmark` if only msit is installed.

The module `ais_bench` may be installed in a different Python than the one that runs this project, because its wheels
exist only for a few Python versions. $AIS_BENCH_PYTHON selects the Python with `ais_bench`.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.common.files import is_file
from model.common.schema import read_checked
from model.export.atc.commands import output_of
from model.runtime.external_tool import figures_of, run_tool, summary_of
from model.runtime.staging import BINS, accepted_path, collect, staged
from model.runtime.task import Task

VARIABLE = "AIS_BENCH_PYTHON"
# The options whose names differ in the newest version of ais_bench and in msit, by their documented names.
_NEWEST = {"--output_dirname": "--output-dirname", "--divide_input": "--divide-input"}
_MSIT = _NEWEST | {"--model": "--om-model", "--batchsize": "--batch-size"}
# The first line of a Python script, with the interpreter as group 1.
_SHEBANG = re.compile(r"#!\s*(?:(?:\S*/)?env\s+)?((?:\S*/)?python[^\s/]*)(?=\s|$)")
# Checks for the submodule `infer` because a tool for language models is also called ais_bench.
_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('ais_bench.infer') is None)"


def find_ais_bench() -> list[str]:
    """Return the first words of the command: `python -m ais_bench` or `msit benchmark`.

    If $AIS_BENCH_PYTHON is set, only that Python is tried. Otherwise this Python, python3 and the Python of msit are
    tried, and then msit itself. Raises UserError if ais_bench is not found.
    """
    given = os.environ.get(VARIABLE)
    for python in [given] if given else _pythons():
        # A subprocess searches for the module in the same way as `python -m`, even if `python` is a different Python.
        if output_of([python, "-c", _PROBE]) is not None:
            return [python, "-m", "ais_bench"]
    if given:
        raise UserError(f"{VARIABLE}={given}: not a Python with the module ais_bench; install its wheels there")
    if shutil.which("msit"):
        return [shutil.which("msit"), "benchmark"]
    raise UserError(
        f"ais_bench not found in {sys.executable} or python3, and no msit on the PATH; set {VARIABLE} to the "
        "Python with ais_bench, or use --runtime benchmark or acl"
    )


def run_ais_bench(task: Task) -> dict[str, Any]:
    """Run the list or pure inference on the device of the task, and return the summary. See `run_on_devices`."""
    [summary] = run_on_devices(task, [task.device_id])
    return summary


def run_on_devices(task: Task, device_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Run the list or pure inference with one command, in which ais_bench divides the list between the devices.

    The results, the tool's own `<results>_summary.json` and a log are written. Each device gets the same number of
    consecutive files of the list. If the files do not divide evenly, each of the first devices gets one more file. The
    tool fills the last batch of each device. It does not measure end-to-end throughput, so this figure is None.

    Returns:
        One summary per device. Its `seconds` are the duration of the whole command, including loading the om file.

    Raises:
        UserError: if the tool fails, or if the batch size of the om file differs from the batch size of the task.
    """
    beginning, several, size = find_ais_bench(), len(device_ids) > 1, task.batch()
    devices = f"devices_{'_'.join(map(str, device_ids))}" if several else f"device_{task.device_id}"
    log = task.next_to_results(f"ais_bench_{'' if task.info else 'pure_'}batchsize_{size}_{devices}.log").absolute()
    with staged(task, fill=not several) as stage:
        # Without --batchsize, the tool reads the batch size from the om file.
        options: dict[str, Any] = {"--loop": task.loop}
        if task.info:
            options = {"--input": stage.folder / BINS, "--outfmt": "BIN", "--batchsize": size}
            options |= {"--divide_input": True} if several else {}
        output, seconds, folder = _run(beginning, stage.om, options, log, task, device_ids)
        folders = [folder / f"device{number}_{i}" for i, number in enumerate(device_ids)] if several else [folder]
        if task.info:
            reported = re.search(r"filesperbatch:(\d+)", output)
            _check_batch(task, int(reported[1]) if reported else None)
            results = {stem: file for part in folders for stem, file in _results(part, stage.sources).items()}
            collect(_tool(beginning), results, stage, task.result_folder, log)
        summaries = []
        for i, (number, part) in enumerate(zip(device_ids, folders, strict=True)):
            name = f"{task.result_folder.name}{f'_share{number}' if several else ''}" if task.info else log.stem
            target = task.next_to_results(f"{name}_summary.json")
            figures = figures_of(task, _summary_path(part), target, None if several else log)
            if not task.info:
                _check_batch(task, figures.batch_size)
            count = (len(stage.sources) + len(device_ids) - 1 - i) // len(device_ids) or task.loop * size
            own = task._replace(device_id=number)
            summaries.append(summary_of(own, _tool(beginning), figures, seconds, count, -count % size))
    return summaries


def _tool(beginning: list[str]) -> str:
    return "msit benchmark" if beginning[-1] == "benchmark" else "ais_bench"


def _summary_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}_summary.json")


def _run(
    beginning: list[str], om: Path, options: dict[str, Any], log: Path, task: Task, device_ids: Sequence[int]
) -> tuple[str, float, Path]:
    """Run the command. If the tool does not know an option, run it again with the option names of the newest version.

    Returns:
        The output, the duration in seconds, and the folder of the results.
    """
    # Newer versions look for the output folder in their working directory and reject a folder there that all users can
    # read. The name of the temporary folder makes the name of the output folder unique.
    name = f"{om.parent.name}_results"
    devices = ",".join(map(str, device_ids))
    options = {"--model": om, "--output": om.parent, "--output_dirname": name, "--device": devices} | options
    folder = Path.cwd()
    if not accepted_path(folder):  # newer versions also check the path of their working directory
        beginning = [str(folder / part) if "/" in part else part for part in beginning]
        folder = om.parent
    tool, command = _tool(beginning), _command(beginning, options)
    try:
        output, seconds = run_tool(tool, command, folder, log, task)
    except UserError:
        if not log.is_file() or b"No such option" not in log.read_bytes():
            raise
        output, seconds = run_tool(tool, _command(beginning, options, newest=True), folder, log, task)
    return output, seconds, om.parent / name


def _command(beginning: list[str], options: dict[str, Any], newest: bool = False) -> list[str]:
    """Build the command line.

    Args:
        options: values of the options by their documented names. The value of a switch is True.
        newest: use the option names and switches of the newest version of ais_bench.
    """
    renamed = _MSIT if beginning[-1] == "benchmark" else _NEWEST if newest else {}
    words = list(beginning)
    for option, value in options.items():
        words.append(renamed.get(option, option))
        if value is not True or not newest:  # all other versions need `1` after a switch
            words.append("1" if value is True else str(value))
    return words


def _pythons() -> Iterator[str]:
    yield sys.executable
    if on_path := shutil.which("python3"):
        yield on_path
    if msit := shutil.which("msit"):
        with Path(msit).open("rb") as script:
            first = script.readline(300).decode(errors="replace")
        if named := _SHEBANG.match(first):
            yield named[1]


def _check_batch(task: Task, found: int | None) -> None:
    """Raise UserError if the batch size that the tool read from the om file differs from the batch size of the task.

    The tool itself does not check it: its option for the batch size affects only the reported throughput.
    """
    if found is not None and found != task.batch():
        raise UserError(
            f"{task.model}: its batch size is {found}, expected {task.batch()}; use --batch_size {found}, or the om "
            f"file for batch size {task.batch()}"
        )


def _results(folder: Path, stems: Iterable[str]) -> dict[str, Path]:
    """Return the result file of each input stem as the tool's summary lists it.

    For a stem that the summary does not list, the file follows from the tool's naming rule.
    """
    results = {stem: folder / f"{stem}_0.bin" for stem in stems}  # ais_bench numbers outputs from 0
    schema = {"filesinfo": {str: {"infiles": [str], "outfiles": [str]}}}
    with suppress(UserError):  # there is no summary, or it is damaged
        listed = read_checked(_summary_path(folder), schema, "no list of files", "the naming rule applies")
        for files in listed["filesinfo"].values():
            if len(files["infiles"]) == len(files["outfiles"]) == 1:
                results[Path(files["infiles"][0]).stem] = folder / Path(files["outfiles"][0]).name
    return {stem: file for stem, file in results.items() if is_file(file)}
