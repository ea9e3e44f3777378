"""What Ascend's two inference tools have in common: an om and bins go in, a folder of results comes out.

A tool works in a folder of its own, where everything it is to read lies under plain names: the documents say
nothing of blanks in a list's paths, and newer tools refuse symbolic links and files that a group may write to.
The last batch is filled there, too.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from model.common.errors import UserError
from model.common.files import atomic_folder
from model.common.lock import locked
from model.export.atc.soc_version import parse_chips, run_npu_smi, soc_version_of
from model.export.input_files import check_replaceable
from model.export.manifest import FILLER_PREFIX, InfoEntry, digest_of, fill_last_batch, write_info
from model.runtime.bin_list import check_bins, check_digest, known_digests
from model.runtime.performance_files import Figures
from model.runtime.result_record import remove_record, write_record

_REFUSED_MODES = stat.S_IWGRP | stat.S_IWOTH
_SAID = 200  # characters of a tool's message that go into ours
_ADVICE = (
    (r"load model", "was it made for this chip (--soc_version), and not by a newer CANN than this one?"),
    (r"[sS]et ?[dD]evice|507033", "is it there and free? see npu-smi info"),
)


class Task(NamedTuple):
    """What a tool is to do. batch_size: of the om; None takes it from its name, as test/pth2om.sh gives it."""

    om: Path
    info: Path
    result_folder: Path
    device_id: int = 0
    batch_size: int | None = None
    quiet: bool = False

    def batch(self) -> int:
        return self.batch_size or batch_of_name(self.om)


class Staged(NamedTuple):
    """Where a tool finds what it reads. All paths are inside `folder`.

    stems: of the staged bins, one for each entry of the list, in its order; plain numbers, so that no tool
    trips over a dot or a blank. digests: of the bins, by the stem of their own name.
    """

    folder: Path
    om: Path
    bins: Path
    info: Path
    stems: list[str]
    fillers: int
    digests: dict[str, str]


def batch_of_name(om: Path) -> int:
    """gaitset_submit_bs16.om -> 16, gaitset_submit.om -> 1; also with the system that atc sometimes adds."""
    named = re.search(r"_bs(\d+)(?:_linux_\w+)?$", om.stem)
    return int(named[1]) if named else 1


@contextmanager
def staged(task: Task) -> Iterator[tuple[list[InfoEntry], Staged]]:
    """The checked list, and a folder beside the results with everything in its place; it vanishes afterwards."""
    if not task.om.is_file():
        raise UserError(f"{task.om}: no such om; make it with test/pth2om.sh")
    entries = check_bins(task.info, None)
    check_replaceable(task.result_folder, ".bin")
    place = task.result_folder.absolute().parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="tool-", dir=place) as name:  # mode 0700: the tools want no more
            yield entries, _stage(task, entries, Path(name))
    except OSError as error:
        raise UserError(f"{place}: running the list failed ({error})") from error


def _stage(task: Task, entries: Sequence[InfoEntry], folder: Path) -> Staged:
    bins, om = folder / "bins", folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', task.om.stem)}.om"
    bins.mkdir(mode=0o750)
    _place(task.om, om)
    digits = max(4, len(str(len(entries) - 1)))
    stems = [f"{i:0{digits}d}" for i in range(len(entries))]
    sources, added = fill_last_batch([entry.path for entry in entries], task.batch())
    fillers = [f"{FILLER_PREFIX}{i:04d}" for i in range(added)]
    files = [bins / f"{stem}.bin" for stem in [*stems, *fillers]]
    for source, file in zip(sources, files, strict=True):
        _place(source, file)
    info = folder / "bins.info"
    write_info(info, [file.relative_to(folder) for file in files])
    known = known_digests(task.info)
    pairs = zip(entries, files, strict=False)  # those of the fillers are left
    digests = {entry.path.stem: check_digest(entry.path, file.read_bytes(), known) for entry, file in pairs}
    return Staged(folder, om, bins, info, stems, added, digests)


def _place(source: Path, target: Path) -> None:
    """A hard link where the disk can and the tools would take the file; else a copy that they take."""
    source = source.resolve()
    facts = source.stat()
    if not facts.st_mode & _REFUSED_MODES and facts.st_uid == os.geteuid():
        try:
            return os.link(source, target)
        except OSError:
            pass  # another disk, or one without links: the copy below
    shutil.copyfile(source, target)
    target.chmod(0o640)


def run_tool(tool: str, command: Sequence[str], folder: Path, log: Path, task: Task) -> tuple[str, float]:
    """Run `command` in `folder`, its output to the file `log`; returns that output and the seconds it took.

    Raises UserError with the first error that the tool names, and where the rest of its words are.
    """
    if not task.quiet:
        print(f"+ {shlex.join(command)}", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        with log.open("wb") as output:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
            )
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be run ({error.strerror})") from error
    seconds = time.perf_counter() - start
    said = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode:
        raise UserError(
            f"{tool} {_how_it_ended(done.returncode)}: {_reason(said)}; {task.om.name} was taken for batch size "
            f"{task.batch()} (--batch_size), all the tool's words are in {log}"
        )
    return said, seconds


def _how_it_ended(code: int) -> str:
    if code > 0:
        return f"ended with status {code}"
    return f"was ended by {signal.Signals(-code).name}"


def _reason(said: str) -> str:
    """The first line that a tool marks as an error, else its last; with advice where it is a frequent one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line for line in lines if re.search(r"\[ERROR\]|\bE[A-Z0-9]\d{4}\b|error:", line)]
    reason = (marked or lines[-1:] or ["it said nothing"])[0][:_SAID]
    advice = [f" ({advice})" for pattern, advice in _ADVICE if re.search(pattern, reason)]
    return reason + "".join(advice[:1])


def collect(
    tool: str, found: Mapping[str, Path], entries: Sequence[InfoEntry], stage: Staged, result_folder: Path, log: Path
) -> None:
    """Move the results `found` (stem of the staged bin -> file) to `result_folder`, replaced as a whole, where they
    get the bin's own stem and keep the tool's number of the output.

    Those of fillers stay behind. Raises UserError when one is missing.
    """
    missing = [stem for stem in stage.stems if stem not in found]
    if missing:
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(
            f"{tool} ended well but left no result of {len(missing)} of {len(entries)} sequences ({names}); see {log}"
        )
    digests = {}
    with (
        locked(result_folder.with_name(f".{result_folder.name}.lock"), result_folder),
        atomic_folder(result_folder) as part,
    ):
        for entry, stem in zip(entries, stage.stems, strict=True):
            number = found[stem].stem.rpartition("_")[2]
            target = part / f"{entry.path.stem}_{number}.bin"
            shutil.move(found[stem], target)
            digests[entry.path.stem] = digest_of(target.read_bytes())
        remove_record(result_folder)
    write_record(result_folder, stage.digests, digests)


def summary_of(
    task: Task, tool: str, entries: Sequence[InfoEntry], stage: Staged, figures: Figures, seconds: float
) -> dict[str, Any]:
    """What `python -m model.runtime` reports, in the names that run_info_list uses, too."""
    return {
        "runtime": figures.runtime,
        "version": tool,
        "provider": f"device {task.device_id}",
        "chip": figures.chip or chip_name(),
        "model": str(task.om),
        "batch_size": task.batch(),
        "sequences": len(entries),
        "fillers": stage.fillers,
        "seconds": seconds,
        "e2e_throughput": figures.end_to_end,
        "device_throughput": figures.device,
        "latency_ms": figures.latency_ms,
        "performance": figures.source,
        "problem": figures.problem,
        "info": str(task.info),
        "result": str(task.result_folder),
    }


def chip_name() -> str | None:
    """What `npu-smi info` calls the chips here, such as Ascend310P3; None without it, or where there are several.

    Only the comparison with published figures wants to know, so nothing fails for want of it.
    """
    try:
        names = {soc_version_of(number, name) for number, name in parse_chips(run_npu_smi(["info"]) or "")}
    except UserError:
        return None
    return names.pop() if len(names) == 1 else None
