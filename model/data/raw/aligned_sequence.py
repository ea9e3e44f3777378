"""One sequence of pretreatment: what is missing of it is aligned and written, and a record kept.

What has been done is recorded in `<sequence>/.pretreatment/record.json`: for each source frame its size
and modification time, and the size of the aligned file (null for a frame that was dropped). Why so, and
not one journal for the whole tree:

* A new sequence is written into a hidden folder beside its place, record and all, and takes its place by
  one rename. So frames and record cannot disagree, however a run ends, and no frame needs a rename of its
  own.
* To look through a finished tree costs one small file and two listings a sequence, in the workers.
* A changed or new source frame shows in its stamp, a missing, empty or truncated aligned one in its size:
  these frames alone are done again, each written aside (inside `.pretreatment`) and put in place whole,
  the record last. When a run is killed in between, the next finds the old record and repeats them.
* Dropped frames are in the record, so they are not tried again. Unreadable ones are not, so every run
  tries and names them until they are mended.
* It is a folder, not a file, because the original's loader takes every file of a sequence for an image
  but passes folders over; and it moves with the sequence when subjects are copied or trees merged.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model.common.files import PART, atomic_folder
from model.data.raw.silhouette import BadImage, align, encode_png, read_image

RECORD_FOLDER = ".pretreatment"
RECORD = f"{RECORD_FOLDER}/record.json"
RECORD_VERSION = 1  # to be raised when the arithmetic of `align` changes: everything is then done again

Put = Callable[[str, "bytes | None"], None]


@dataclass(frozen=True)
class SequenceJob:
    number: int
    name: str
    source: str
    target: str
    frames: tuple[str, ...]


@dataclass
class SequenceResult:
    number: int
    name: str
    frames: int
    kept: int = 0
    worked_on: int = 0
    changed: bool = False
    dropped: list[str] = field(default_factory=list)  # those found in this run
    dropped_before: int = 0  # those the record knew
    unreadable: list[str] = field(default_factory=list)  # messages


def aligned_name(frame: str) -> str:
    """The name of the aligned file: that of the frame, with the suffix .png."""
    return frame[: frame.rindex(".")] + ".png"


def pretreat_sequence(job: SequenceJob, stopped: Callable[[], bool]) -> SequenceResult:
    """Do of one sequence what its record and the listings of both folders show to be missing.

    Raises KeyboardInterrupt between two frames once `stopped()`, leaving nothing half-written.
    """
    result = SequenceResult(job.number, job.name, len(job.frames))
    present = _listing(job.target)
    if present is None and not job.frames:
        return result
    stamps = {name: [s.st_size, s.st_mtime_ns] for name, s in (_listing(job.source) or {}).items()}
    record = {} if present is None else _read_record(job.target)
    entries, todo = {}, []
    for frame in job.frames:
        entry, made = record.get(frame), (present or {}).get(aligned_name(frame))
        if entry and entry[:2] == stamps.get(frame) and entry[2] == (made.st_size if made else None):
            entries[frame] = entry
        else:
            todo.append(frame)
    gone = record.keys() - set(job.frames)
    result.dropped_before = sum(size is None for _, _, size in entries.values())
    result.changed = bool(todo or gone)
    if result.changed:
        with _writer(job.target, present) as put:
            for frame in gone:
                put(aligned_name(frame), None)
            entries |= _align_frames(job, todo, stamps, put, result, stopped)
            put(RECORD, json.dumps({"version": RECORD_VERSION, "frames": entries}).encode())
    result.kept = sum(size is not None for _, _, size in entries.values())
    return result


def _align_frames(
    job: SequenceJob,
    todo: list[str],
    stamps: dict,
    put: Put,
    result: SequenceResult,
    stopped: Callable[[], bool],
) -> dict:
    """Read, align and write the frames `todo`; returns their entries for the record.

    The stamps were taken before the frames are read: what changes in between is done again next time.
    """
    entries = {}
    for frame in todo:
        if stopped():
            raise KeyboardInterrupt
        result.worked_on += 1
        data = None
        try:
            aligned = align(read_image(f"{job.source}/{frame}"))
        except BadImage as error:
            result.unreadable.append(str(error))
        else:
            if aligned is None:
                result.dropped.append(frame)
            else:
                data = encode_png(aligned)
            entries[frame] = [*stamps[frame], None if data is None else len(data)]
        put(aligned_name(frame), data)
    return entries


# Files


def _listing(folder: str) -> dict[str, os.stat_result] | None:
    """The files of a folder, None when there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat() for entry in entries if entry.is_file()}
    except FileNotFoundError:
        return None


def _read_record(target: str) -> dict[str, list]:
    """Frame to [size, modification time, aligned size or None]; empty when there is no valid record."""
    try:
        record = json.loads(Path(target, RECORD).read_bytes())
        frames = record["frames"] if record["version"] == RECORD_VERSION else {}
        valid = isinstance(frames, dict) and all(map(_is_entry, frames.values()))
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        valid = False
    return frames if valid else {}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 3 and all(type(n) in (int, type(None)) for n in entry)


@contextmanager
def _writer(target: str, present: dict | None) -> Iterator[Put]:
    """Give a function that puts bytes (None: nothing) under a name into the sequence folder `target`.

    A new folder appears whole, at the end; in one that is there already each file does.
    """
    if present is None:
        with atomic_folder(target) as part:
            (part / RECORD_FOLDER).mkdir()
            folder = str(part)
            yield lambda name, data: _write(f"{folder}/{name}", data) if data is not None else None
        return
    scratch = Path(target, RECORD_FOLDER)
    scratch.mkdir(exist_ok=True)

    def put(name: str, data: bytes | None) -> None:
        if data is not None:
            part = scratch / f"new{PART}"  # what a killed run leaves here the next one overwrites
            _write(str(part), data)
            part.replace(Path(target, name))
        elif name in present:
            Path(target, name).unlink(missing_ok=True)

    yield put


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)
