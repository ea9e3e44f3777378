"""Run an external tool (Ascend's benchmark or ais_bench), and report the reason of its failure or a summary."""

import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.export.atc.advice import coded_error, uncoded_reason
from model.export.atc.commands import open_log, run_logged
from model.export.atc.soc_version import soc_versions
from model.runtime.performance_files import Figures, read_figures
from model.runtime.task import Task

_MAX_REASON = 200  # characters of a tool's message that an error message quotes
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# An error message in a box, as newer versions of ais_bench print it. Group 1 contains the lines of the message.
_BOX = re.compile(r"^\W{0,9} Error \W*\n((?:[│|].*\n)+)", re.MULTILINE)
_ADVICE = (
    (r"load model", "was it converted for this chip (--soc_version) by this or an older CANN version?"),
    (r"[sS]et ?[dD]evice|507033", "does the device exist, and is it free? see npu-smi info"),
)


def run_tool(tool: str, command: Sequence[str], folder: Path, log: Path, task: Task) -> tuple[str, float]:
    """Run `command` in the working directory `folder`, and write its output to the file `log`.

    Returns:
        The output and the duration in seconds.

    Raises:
        UserError: if the command fails, with the first error of its output and the path of the log.
    """
    if not task.quiet:
        print(f"+ {shlex.join(command)}", file=sys.stderr, flush=True)
    start = time.perf_counter()
    with open_log(log) as file:
        printed, code = run_logged(command, folder, file)
    seconds = time.perf_counter() - start
    if code:
        ended = f"failed with exit status {code}" if code > 0 else f"was terminated by {signal.Signals(-code).name}"
        raise UserError(
            f"{tool} {ended}: {reason_of(printed)}; the assumed batch size of {task.model.name} is {task.batch()} "
            f"(--batch_size); the full output is in {log}"
        )
    return printed, seconds


def reason_of(output: str) -> str:
    """Return the reason for a failure from the output of a tool, with advice for known errors.

    The reason is the first of these texts that the output contains: the text of an error box, an [ERROR] line, an error
    of CANN with a code, or the last line that contains letters.
    """
    output = _COLOURS.sub("", output.replace("\r", "\n"))  # a progress bar separates its updates by carriage returns
    box, coded, reason = _BOX.search(output), coded_error(output), uncoded_reason(output)
    if box:
        reason = " ".join(line.strip("│| ") for line in box[1].splitlines())
    elif coded and reason.startswith("[ERROR]"):
        reason = f"{reason} ({coded.code}: {coded.text})"
    elif coded:
        reason = f"{coded.code}: {coded.text}"
    reason = (reason or "no output")[:_MAX_REASON]
    advice = [f" ({advice})" for pattern, advice in _ADVICE if re.search(pattern, reason)]
    return reason + "".join(advice[:1])


def figures_of(task: Task, written: Path, target: Path, log: Path | None = None) -> Figures:
    """Read the performance file `written` of a tool, and copy the file to `target` next to the results.

    Args:
        log: file with the printed output of the tool. It is read if the tool did not write a performance file.

    Returns:
        The performance figures. If no figures can be read, only `problem` is set, to the reason.
    """
    try:
        if written.is_file():
            shutil.copyfile(written, target)
            return read_figures(target, task.batch())
        if log is not None:
            return read_figures(log, task.batch())
        problem = f"{task.runtime} did not write {written.name}"
    except UserError as error:
        problem = str(error)
    return Figures(task.runtime, None, None, None, source=str(target), problem=problem)


def summary_of(task: Task, tool: str, figures: Figures, seconds: float, sequences: int, fillers: int) -> dict[str, Any]:
    """Return the summary of a run. Its keys are the keys of the summary of `run_info_list`."""
    return {
        "runtime": figures.runtime, "version": tool, "provider": f"device {task.device_id}",
        "chip": figures.chip or chip_name(), "model": str(task.model), "batch_size": task.batch(),
        "sequences": sequences, "fillers": fillers, "seconds": seconds, "e2e_throughput": figures.end_to_end,
        "device_throughput": figures.device, "latency_ms": figures.latency_ms, "performance": figures.source,
        "problem": figures.problem, "info": None if task.info is None else str(task.info),
        "result": None if task.info is None else str(task.result_folder),
    }  # fmt: skip


def chip_name() -> str | None:
    """Return the chip name of `npu-smi info`, such as Ascend310P3.

    Returns None if npu-smi fails or lists different chips. The name is optional, because only the comparison with
    published results uses it.
    """
    try:
        names = soc_versions() or []
    except UserError:
        return None
    return names[0] if len(names) == 1 else None
