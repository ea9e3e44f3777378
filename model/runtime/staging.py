"""Prepare the temporary folder in which an external tool runs, and move its results to the user's result folder.

The temporary folder contains the input files under simple names, for two reasons: the documents do not say whether the
paths of a list may contain blanks, and newer tools reject symbolic links, group-writable files and paths that do not
match `_TOOL_PATH`. The fillers of the last batch are created there as well.
"""

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
from model.export.manifest import FILLER_PREFIX, digest_of, fill_last_batch, write_info
from model.runtime.bin_list import check_bins, check_digest, known_digests
from model.runtime.result_record import replaced_results
from model.runtime.task import Task

BINS, INFO = "bins", "bins.info"  # names of the folder of input files and of their list
_REFUSED_MODES = stat.S_IWGRP | stat.S_IWOTH
_TOOL_PATH = re.compile(r"[A-Za-z0-9_./-]+")  # matches the paths that all tools accept


class Staged(NamedTuple):
    """A temporary folder with the om file and, except in pure inference, its input files and their list.

    Attributes:
        sources: the original input files in the order of the list, by the stem of their copy. The stems of the copies
            are plain numbers, because a tool may not support dots or blanks.
        fillers: number of input files that only complete the last batch.
        digests: digests of the input files, by their original stem.
    """

    om: Path
    sources: dict[str, Path]
    fillers: int
    digests: dict[str, str]

    @property
    def folder(self) -> Path:
        return self.om.parent


@contextmanager
def staged(task: Task, fill: bool = True) -> Iterator[Staged]:
    """Yield a temporary folder with the om file and, if the task has a list, the input files of the checked list.

    The temporary folder is next to the results. If the tools reject that path, it is in the system's folder for
    temporary files.

    Args:
        fill: whether to add fillers to complete the last batch.
    """
    if not task.model.is_file():
        raise UserError(f"{task.model}: no such om file; create it with test/pth2om.sh")
    files = []
    if task.info:
        files = check_bins(task.info, None)[slice(*(task.share or (None,)))]
        check_replaceable(task.result_folder, ".bin")
    parent = task.result_folder.absolute().parent
    place = parent if accepted_path(parent) else Path(tempfile.gettempdir())
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="tool-", dir=place) as name:  # mode 0700, which the tools require
            om = Path(name) / f"{re.sub(r'[^A-Za-z0-9_-]', '_', task.model.stem)}.om"
            _link_or_copy(task.model, om)
            yield _stage(task, files, om, fill) if files else Staged(om, {}, 0, {})
    except OSError as error:
        advice = "check the space and the permissions there"
        if place != parent:
            advice = f"set TMPDIR to a folder with more space than {place}"
        raise UserError(f"{parent}: running the list failed ({error}); {advice}") from error


def accepted_path(path: Path) -> bool:
    return _TOOL_PATH.fullmatch(str(path)) is not None


def _stage(task: Task, files: list[Path], om: Path, fill: bool) -> Staged:
    folder = om.parent
    (folder / BINS).mkdir(mode=0o750)
    digits = max(4, len(str(len(files) - 1)))
    sources = {f"{i:0{digits}d}": file for i, file in enumerate(files)}
    filled, added = fill_last_batch(files, task.batch() if fill else 1)
    names = [Path(BINS) / f"{stem}.bin" for stem in (*sources, *(f"{FILLER_PREFIX}{i:04d}" for i in range(added)))]
    for source, name in zip(filled, names, strict=True):
        _link_or_copy(source, folder / name)
    write_info(folder / INFO, names)
    known = known_digests(task.info)
    copies = zip(files, names, strict=False)  # without the fillers
    digests = {file.stem: check_digest(file, (folder / name).read_bytes(), known) for file, name in copies}
    return Staged(om, sources, added, digests)


def _link_or_copy(source: Path, target: Path) -> None:
    """Create a hard link if the file system and the tools allow it. Otherwise, create a copy with the required mode."""
    source = source.resolve()
    status = source.stat()
    if not status.st_mode & _REFUSED_MODES and status.st_uid == os.geteuid():
        try:
            return os.link(source, target)
        except OSError:
            pass  # the folders are on different file systems, or the file system does not support hard links
    shutil.copyfile(source, target)
    target.chmod(0o640)


def collect(tool: str, results: Mapping[str, Path], stage: Staged, result_folder: Path, log: Path) -> None:
    """Move the results to `result_folder`, which is replaced as a whole. The results of fillers are not moved.

    The name of each result is the original stem of its input file, followed by the output number of the tool.

    Args:
        results: file of each result, by the stem of the copied input file.

    Raises:
        UserError: if a result is missing.
    """
    missing = [stem for stem in stage.sources if stem not in results]
    if missing:
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(
            f"{tool} wrote no result for {len(missing)} of {len(stage.sources)} sequences ({names}), although its exit "
            f"status is 0; see {log}"
        )
    with replaced_results(result_folder) as (part, bins, digests):
        bins |= stage.digests
        for stem, source in stage.sources.items():
            number = results[stem].stem.rpartition("_")[2]
            target = part / f"{source.stem}_{number}.bin"
            shutil.move(results[stem], target)
            digests[source.stem] = digest_of(target.read_bytes())
