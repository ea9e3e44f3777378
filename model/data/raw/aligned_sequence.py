"""Pretreatment of one sequence: align and write the frames that are missing or outdated, and record the result.

Each sequence has a record, the file `<sequence>/.pretreatment/record.json`. For each source frame, the record contains
the size and the modification time of the source file, and the size of the aligned file (null if the frame was dropped).

* A new sequence is written to a hidden folder next to its final path. Then this folder, which includes the record, is
  renamed. So the frames agree with the record even if the run is killed, and the frames need no separate renames.
* To check a finished tree, the workers read one small file and two folder listings per sequence.
* A new or changed source frame differs from the record in size or modification time. A missing, empty or truncated
  aligned frame differs from the record in size. Only these frames are processed again. Each aligned frame is written to
  a temporary file in `.pretreatment` and renamed, and the record is written last. If the run is killed before the
  record is written, the next run finds the old record and processes these frames again.
* Dropped frames are recorded with the reason, so they are not processed again. Unreadable frames are not recorded, so
  every run tries to read them again and reports them until they are repaired.
* The record also contains how the frames were read (see `content.py`). This decision is made again if the frames,
  `--invert` or `--remove_specks` change. If the decision differs, all frames of the sequence are processed again.
* The record is in a subfolder because the data loader of the original code (AbnerHqC/GaitSet) ignores folders but reads
  every file of a sequence as an image. The record stays with its sequence when subjects are copied or trees are merged.
"""

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from model.common.files import PART, atomic_folder
from model.common.schema import parse_checked
from model.data.raw.content import BadContent, Reading, choose_reading, sample_frames
from model.data.raw.silhouette import DROP_REASONS, BadImage, Pixels, align, drop_reason, encode_png, read_pixels

RECORD_FOLDER = ".pretreatment"
RECORD = f"{RECORD_FOLDER}/record.json"
RECORD_VERSION = 1  # increase this if the arithmetic of `align` changes: all frames are then processed again

Write = Callable[[str, "bytes | None"], None]  # (name, content): write a file of the sequence; None: delete the file


@dataclass(frozen=True)
class SequenceJob:
    """A sequence to process.

    Attributes:
        number: the number of the sequence in the log file.
        name: subject/seq_type/view.
        source: the folder of the raw frames.
        target: the folder of the aligned frames.
        frames: the names of the raw frames.
        invert: the silhouettes are black on white.
        specks: remove specks.
        skip_bad: leave the sequence out if it does not contain silhouettes, instead of ending the run.
    """

    number: int
    name: str
    source: str
    target: str
    frames: tuple[str, ...]
    invert: bool = False
    specks: bool = False
    skip_bad: bool = False


@dataclass
class SequenceResult:
    """The result for one sequence: the numbers of its frames, and its problems."""

    number: int
    name: str
    frames: int
    kept: int = 0
    worked_on: int = 0
    changed: bool = False
    dropped: dict[str, str] = field(default_factory=dict)  # the reason for each frame that this run dropped
    dropped_before: Counter[str] = field(default_factory=Counter)  # number of frames dropped in earlier runs, by reason
    unreadable: list[str] = field(default_factory=list)  # a message for each unreadable frame
    rejected: str | None = None  # why the sequence is left out
    reading: Reading = field(default_factory=Reading)


def aligned_name(frame: str) -> str:
    """Return the name of the aligned file: the name of the frame with the suffix .png."""
    return frame[: frame.rindex(".")] + ".png"


def pretreat_sequence(job: SequenceJob, stopped: Callable[[], bool]) -> SequenceResult:
    """Process the frames that are missing or outdated according to the record and the listings of both folders.

    Files get their final name only when they are complete, so a killed process leaves no incomplete frame.

    Raises:
        BadContent: if the sequence does not contain silhouettes and `job.skip_bad` is False.
        KeyboardInterrupt: if `stopped()`, which is called before each frame, returns True.
    """
    result = SequenceResult(job.number, job.name, len(job.frames))
    present = _listing(job.target)
    if present is None and not job.frames:
        return result
    # Compare each frame with its entry in the record.
    stamps = {name: [s.st_size, s.st_mtime_ns] for name, s in (_listing(job.source) or {}).items()}
    record = Record() if present is None else _read_record(job.target)
    sizes = {name: status.st_size for name, status in (present or {}).items()}
    known = {frame: record.frames[frame] for frame in job.frames if frame in record.frames}
    entries = {f: e for f, e in known.items() if e[:2] == stamps.get(f) and e[2] == sizes.get(aligned_name(f))}
    todo = [frame for frame in job.frames if frame not in entries]
    removed = record.frames.keys() - known.keys()
    # Decide how to read the frames. Earlier versions left grey values unchanged and wrote records without a reading.
    result.reading, samples = record.reading or Reading(), {}
    if todo or removed or record.reading is None or record.reading[2:] != (job.invert, job.specks):
        samples = sample_frames(job.frames, lambda frame: read_pixels(f"{job.source}/{frame}"))
        try:
            reading = choose_reading(job.source, list(samples.values()), job.invert)
            result.reading = reading._replace(specks=job.specks)
        except BadContent as error:
            if not job.skip_bad:
                raise
            result.rejected = str(error)
            if present is None:
                return result
            entries, todo, removed = {}, [], record.frames.keys()
        else:
            if result.reading != (record.reading or Reading()):
                entries, todo = {}, list(job.frames)
    dropped = {f: record.dropped.get(f, "unknown reason") for f, (_, _, size) in entries.items() if size is None}
    result.dropped_before = Counter(dropped.values())
    result.changed = bool(todo or removed)
    # Delete removed frames, process the frames in `todo`, and write the record last.
    if result.changed or (record.reading is None and not result.rejected):
        with _writer(job.target, present) as write:
            for frame in removed:
                write(aligned_name(frame), None)
            for frame in todo:
                if stopped():
                    raise KeyboardInterrupt
                result.worked_on += 1
                data = _aligned_file(job, frame, samples, result)
                # The size and the time were taken before the frame was read. If the frame changed in between, the next
                # run detects the change.
                if data is not None or frame in result.dropped:
                    entries[frame] = [*stamps[frame], data and len(data)]
                write(aligned_name(frame), data)
            dropped |= result.dropped
            record = Record(entries, None if result.rejected else result.reading, dropped)
            write(RECORD, json.dumps({"version": RECORD_VERSION, **record._asdict()}).encode())
    result.kept = sum(size is not None for _, _, size in entries.values())
    return result


def _aligned_file(job: SequenceJob, frame: str, samples: dict[str, Pixels], result: SequenceResult) -> bytes | None:
    """Return the content of the aligned file of a frame, or None if the frame is unreadable or dropped.

    The reason is added to `result`. `samples` contains the frames that were already decoded.
    """
    try:
        pixels = samples.get(frame) or read_pixels(f"{job.source}/{frame}")
    except BadImage as error:
        result.unreadable.append(str(error))
        return None
    sil = result.reading.silhouette(pixels)
    aligned = align(sil)
    if aligned is None:
        result.dropped[frame] = drop_reason(sil, result.reading.channel(pixels))
        return None
    return encode_png(aligned)


# Files


def _listing(folder: str) -> dict[str, os.stat_result] | None:
    """Return the status of the files of a folder by name, or None if the folder does not exist."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat() for entry in entries if entry.is_file()}
    except FileNotFoundError:
        return None


class Record(NamedTuple):
    """The content of the record of a sequence.

    Attributes:
        frames: for each frame, the list [size, modification time in ns, size of the aligned file]. The last value is
            None if the frame was dropped.
        reading: how the frames were read; None in a record of an earlier version.
        dropped: the reason for each dropped frame, a key of DROP_REASONS.
    """

    frames: dict[str, list] = {}  # noqa: RUF012, the default is never changed
    reading: Reading | None = None
    dropped: dict[str, str] = {}  # noqa: RUF012


def _read_record(target: str) -> Record:
    """Return the record of a sequence, or an empty record if the file is missing or invalid."""
    schema = {"version": RECORD_VERSION, "frames": {str: list}, "dropped": dict | None}
    try:
        record = parse_checked(Path(target, RECORD).read_bytes(), schema)
    except (FileNotFoundError, ValueError):
        return Record()
    if not all(len(e) == 3 and {int, type(None)}.issuperset(map(type, e)) for e in record["frames"].values()):
        return Record()
    dropped = record.get("dropped") or {}
    known = {f: reason for f, reason in dropped.items() if isinstance(reason, str) and reason in DROP_REASONS}
    return Record(record["frames"], Reading.from_json(record.get("reading")), known)


@contextmanager
def _writer(target: str, present: dict | None) -> Iterator[Write]:
    """Yield a function that writes or deletes files of the sequence folder `target`.

    A new folder gets its final name at the end of the block. In an existing folder, each file is replaced atomically.

    Args:
        present: the files of the folder by name, or None if the folder does not exist.
    """
    if present is None:
        with atomic_folder(target) as part:
            (part / RECORD_FOLDER).mkdir()
            folder = str(part)
            yield lambda name, data: _write(f"{folder}/{name}", data) if data is not None else None
        return
    scratch = Path(target, RECORD_FOLDER)
    scratch.mkdir(exist_ok=True)

    def write(name: str, data: bytes | None) -> None:
        if data is not None:
            part = scratch / f"new{PART}"  # the next run overwrites a leftover of a killed run
            _write(str(part), data)
            part.replace(Path(target, name))
        elif name in present:
            Path(target, name).unlink(missing_ok=True)

    yield write


def _write(path: str, data: bytes) -> None:
    """Write a file with three system calls. Python's file objects need more."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)
