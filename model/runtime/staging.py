"""Input files of an external tool, and its results: a temporary folder for the tool, and the folder of the user.

Each tool runs in a temporary folder that holds its input files under simple names: the documents do not say whether
the paths of a list may contain blanks, and newer tools reject symbolic links, group-writable files and paths with
other characters than `_TOOL_PATH`. The last batch is filled there as well.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from model.common.errors import UserError
from model.export.input_files import check_replaceable
from model.export.manifest import FILLER_PREFIX, InfoEntry, digest_of, fill_last_batch, write_info
from model.runtime.bin_list import check_bins, check_digest, known_digests
from model.runtime.result_record import replaced_results

_REFUSED_MODES = stat.S_IWGRP | stat.S_IWOTH
_TOOL_PATH = re.compile(r"[A-Za-z0-9_./-]+")  # paths that the tools accept


class Task(NamedTuple):
    """Input and output of a tool run.

    Attributes:
        info: list of input files, or None for pure inference.
        batch_size: of the om file. With None, it is taken from the file name as test/pth2om.sh sets it.
        share: first position in the list and the one after the last, to run only a part of it. Default: all.
    """

    om: Path
    info: Path | None
    result_folder: Path
    device_id: int = 0
    batch_size: int | None = None
    quiet: bool = False
    share: tuple[int, int] | None = None

    def batch(self) -> int:
        return self.batch_size or batch_of_name(self.om)


class Staged(NamedTuple):
    """Input files of a tool in a temporary folder. All paths are inside `folder`.

    Attributes:
        entries: the checked list.
        stems: stems of the copied input files in the order of the list. They are plain numbers because a tool
            may not support dots or blanks.
        digests: digests of the input files, by their original stem.
    """

    folder: Path
    entries: list[InfoEntry]
    om: Path
    bins: Path
    info: Path
    stems: list[str]
    fillers: int
    digests: dict[str, str]


def batch_of_name(om: Path) -> int:
    """gaitset_submit_bs16.om -> 16, gaitset_submit.om -> 1; also with the system name that ATC may append."""
    named = re.search(r"_bs(\d+)(?:_linux_\w+)?$", om.stem)
    return int(named[1]) if named else 1


@contextmanager
def staged_om(task: Task) -> Iterator[Path]:
    """Yield a copy of the om file in a temporary folder.

    The folder is next to the results, or in the system's folder for temporary files if the tools reject that path.
    """
    parent = task.result_folder.absolute().parent
    place = parent if accepted_path(parent) else Path(tempfile.gettempdir())
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="tool-", dir=place) as name:  # mode 0700, which the tools require
            om = Path(name) / f"{re.sub(r'[^A-Za-z0-9_-]', '_', task.om.stem)}.om"
            _link_or_copy(require_om(task), om)
            yield om
    except OSError as error:
        hint = "" if place == parent else f"; set TMPDIR to a folder with more space than {place}"
        raise UserError(f"{parent}: running the list failed ({error}){hint}") from error


@contextmanager
def staged(task: Task, fill: bool = True) -> Iterator[Staged]:
    """Yield a temporary folder with the om file and the input files of the checked list.

    Args:
        fill: fill the last batch.
    """
    require_om(task)
    entries = check_bins(task.info, None)[slice(*(task.share or (None,)))]
    check_replaceable(task.result_folder, ".bin")
    with staged_om(task) as om:
        yield _stage(task, entries, om, fill)


def require_om(task: Task) -> Path:
    if not task.om.is_file():
        raise UserError(f"{task.om}: no such om file; create it with test/pth2om.sh")
    return task.om


def accepted_path(path: Path) -> bool:
    return _TOOL_PATH.fullmatch(str(path)) is not None


def _stage(task: Task, entries: list[InfoEntry], om: Path, fill: bool) -> Staged:
    folder, bins = om.parent, om.parent / "bins"
    bins.mkdir(mode=0o750)
    digits = max(4, len(str(len(entries) - 1)))
    stems = [f"{i:0{digits}d}" for i in range(len(entries))]
    sources, added = fill_last_batch([entry.path for entry in entries], task.batch() if fill else 1)
    fillers = [f"{FILLER_PREFIX}{i:04d}" for i in range(added)]
    files = [bins / f"{stem}.bin" for stem in [*stems, *fillers]]
    for source, file in zip(sources, files, strict=True):
        _link_or_copy(source, file)
    info = folder / "bins.info"
    write_info(info, [file.relative_to(folder) for file in files])
    known = known_digests(task.info)
    pairs = zip(entries, files, strict=False)  # without the fillers
    digests = {entry.path.stem: check_digest(entry.path, file.read_bytes(), known) for entry, file in pairs}
    return Staged(folder, entries, om, bins, info, stems, added, digests)


def _link_or_copy(source: Path, target: Path) -> None:
    """Create a hard link if the file system and the tools allow it, otherwise a copy with the required mode."""
    source = source.resolve()
    status = source.stat()
    if not status.st_mode & _REFUSED_MODES and status.st_uid == os.geteuid():
        try:
            return os.link(source, target)
        except OSError:
            pass  # a different file system, or one without hard links: copy instead
    shutil.copyfile(source, target)
    target.chmod(0o640)


def collect(tool: str, results: Mapping[str, Path], stage: Staged, result_folder: Path, log: Path) -> None:
    """Move the results to `result_folder`, which is replaced as a whole, without those of fillers.

    Each result gets the original stem of its input file and keeps the output number of the tool.

    Args:
        results: file of each result, by the stem of the copied input file.

    Raises:
        UserError: if a result is missing.
    """
    missing = [stem for stem in stage.stems if stem not in results]
    if missing:
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(
            f"{tool} succeeded but wrote no result for {len(missing)} of {len(stage.stems)} sequences ({names}); "
            f"see {log}"
        )
    with replaced_results(result_folder) as (part, bins, digests):
        bins |= stage.digests
        for entry, stem in zip(stage.entries, stage.stems, strict=True):
            number = results[stem].stem.rpartition("_")[2]
            target = part / f"{entry.path.stem}_{number}.bin"
            shutil.move(results[stem], target)
            digests[entry.path.stem] = digest_of(target.read_bytes())
