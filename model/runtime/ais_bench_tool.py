"""Ascend's `ais_bench`, which runs an om over a folder of bins; where only that is there, `msit benchmark`.

`python -m ais_bench` need not be a module of this Python: its wheels exist for few versions. $AIS_BENCH_PYTHON
names the interpreter that has it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.common.files import is_file, read_json, write_json
from model.runtime.external_tool import Staged, Task, collect, run_tool, staged, summary_of
from model.runtime.performance_files import Figures, performance_path, read_figures

VARIABLE = "AIS_BENCH_PYTHON"
_SUFFIX = "_0"  # it counts outputs from 0
# Asked for by its part `infer`: another tool of that maker, for language models, is called ais_bench, too.
_ASK = "import importlib.util, sys; sys.exit(importlib.util.find_spec('ais_bench.infer') is None)"


def find_ais_bench() -> list[str]:
    """How the command begins: `python -m ais_bench` of $AIS_BENCH_PYTHON, this Python, python3 or the one that
    msit runs in; else `msit benchmark`. Raises UserError when there is none of them."""
    given = os.environ.get(VARIABLE)
    for python in [given] if given else _pythons():
        if _has_ais_bench(python):
            return [python, "-m", "ais_bench"]
    if given:
        raise UserError(f"{VARIABLE}={given}: no Python with the module ais_bench; install its wheels there")
    if shutil.which("msit"):
        return [shutil.which("msit"), "benchmark"]
    raise UserError(
        f"no ais_bench found (not in {sys.executable} nor python3, and no msit on the PATH); set {VARIABLE} to the "
        "Python that has it, or try --runtime benchmark or acl"
    )


def ais_bench_command(beginning: list[str], stage: Staged, name: str, batch_size: int, device_id: int) -> list[str]:
    """As the documents have it; msit spells the same options with dashes."""
    options = {
        "--model": stage.om,
        "--input": stage.bins,
        "--output": stage.folder,
        "--output_dirname": name,
        "--outfmt": "BIN",
        "--batchsize": batch_size,
        "--device": device_id,
    }
    if beginning[-1] == "benchmark":
        spelt = {"--model": "--om-model", "--output_dirname": "--output-dirname", "--batchsize": "--batch-size"}
        options = {spelt.get(option, option): value for option, value in options.items()}
    return [*beginning, *(str(part) for option in options.items() for part in option)]


def run_ais_bench(task: Task) -> dict[str, Any]:
    """Run the list; results, `<results>_summary.json` and a log appear. Returns the summary.

    The tool gives no throughput from reading to writing: end_to_end stays empty, `seconds` are those of the
    whole command, loading the om included. Raises UserError when the om has another batch size than was said.
    """
    beginning = find_ais_bench()
    tool = "msit benchmark" if beginning[-1] == "benchmark" else "ais_bench"
    batch_size, place = task.batch(), task.result_folder.parent
    log = place.absolute() / f"ais_bench_batchsize_{batch_size}_device_{task.device_id}.log"
    with staged(task) as (entries, stage):
        # Newer ones refuse an output folder that exists here, from where they run, with usual permissions.
        name = f"{stage.folder.name}_results"
        command = ais_bench_command(beginning, stage, name, batch_size, task.device_id)
        said, seconds = run_tool(tool, command, Path.cwd(), log, task)
        _check_batch(task, said)
        written = stage.folder / f"{name}_summary.json"
        found = _results(written, stage.folder / name, stage.stems)
        collect(tool, found, entries, stage, task.result_folder, log)
        figures = _figures(written, task.result_folder.with_name(f"{task.result_folder.name}_summary.json"), log)
        summary = summary_of(task, tool, entries, stage, figures, seconds)
    write_json(performance_path(place, batch_size, task.device_id).with_suffix(".json"), summary)
    return summary


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
    """Asked in a process of its own: it may be another Python, and the answer has to be the one `-m` would get."""
    try:
        return subprocess.run([python, "-c", _ASK], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _check_batch(task: Task, said: str) -> None:
    """The tool takes its batch from the om and says so; what it was told counts only for its throughput."""
    found = re.search(r"filesperbatch:(\d+)", said)
    if found and int(found[1]) != task.batch():
        raise UserError(
            f"{task.om}: has batch size {found[1]}, not {task.batch()}; give --batch_size {found[1]} "
            "or the om made for the other"
        )


def _results(written: Path, folder: Path, stems: list[str]) -> dict[str, Path]:
    """Stem of the staged bin -> its result: as the tool's summary says, else by the names it uses."""
    found = {stem: folder / f"{stem}{_SUFFIX}.bin" for stem in stems}
    if written.is_file():
        found |= {Path(bin_file).stem: folder / Path(result).name for bin_file, result in _pairs(written)}
    return {stem: file for stem, file in found.items() if is_file(file)}


def _pairs(written: Path) -> Iterator[tuple[str, str]]:
    """Bin and result of each sequence, as far as the tool's summary.json names them; nothing for a damaged one."""
    try:
        content = read_json(written)
    except UserError:
        return
    listed = content.get("filesinfo") if isinstance(content, dict) else None
    for files in listed.values() if isinstance(listed, dict) else ():
        both = [files.get(kind) for kind in ("infiles", "outfiles")] if isinstance(files, dict) else []
        if both and all(isinstance(one, list) and len(one) == 1 and isinstance(one[0], str) for one in both):
            yield both[0][0], both[1][0]


def _figures(written: Path, target: Path, log: Path) -> Figures:
    """Those of summary.json, which goes beside the results; without it those that the tool printed."""
    try:
        if written.is_file():
            shutil.copyfile(written, target)
            return read_figures(target)
        return replace(read_figures(log), source=str(log))
    except UserError as error:
        return Figures("ais_bench", None, None, None, source=str(target), problem=str(error))
