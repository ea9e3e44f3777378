"""Store of silhouettes: one packed, memory-mapped file of all frames, and an index with their labels.

A store is a folder with `frames.u8` (uint8 [frames, 64, 44], the sequences one after another), `index.json` (the
encoded columns of SequenceIndex) and `source.json` (the source tree and a stamp that detects changes). A store is built
once from an aligned tree and can then be opened in milliseconds.
"""

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.common.cores import core_count, map_in_processes
from model.common.errors import UsageError, UserError, counted, os_errors_as
from model.common.files import atomic_folder
from model.common.geometry import FRAME_HEIGHT, FRAME_WIDTH
from model.common.lock import locked
from model.common.messages import progress_bar
from model.data import store_index
from model.data.index import SequenceIndex
from model.data.pickle_choice import choose_pickles
from model.data.raw.tree import SequenceFolder, scan_tree
from model.data.source import read_sequence
from model.data.store_index import INDEX, first_and_last, source_stamp

FRAMES = "frames.u8"
FRAME_BYTES = FRAME_HEIGHT * FRAME_WIDTH
MIN_FILES_FOR_POOL = 20_000  # with fewer files, starting worker processes takes longer than reading

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SilhouetteStore:
    """Index and uint8 frames [rows, 64, 44], memory-mapped, or in memory if cached."""

    path: Path
    index: SequenceIndex
    frames: np.ndarray

    def sequence(self, position: int) -> np.ndarray:
        """Return all frames of one sequence, uint8 [frames, 64, 44]."""
        offset = self.index.offset[position]
        return self.frames[offset : offset + self.index.frames[position]]


def is_store(path: Path) -> bool:
    return (path / INDEX).is_file() and (path / FRAMES).is_file()


def open_store(path: Path | str, cache: bool = False) -> SilhouetteStore:
    """Open a store. With `cache`, read all frames into memory. Raises UserError if the store is invalid."""
    path = Path(path)
    index, file = store_index.read_index(path), path / FRAMES
    rows = int(index.frames.sum())
    with os_errors_as(f"{file}: cannot be read"):
        size = file.stat().st_size
    if size != rows * FRAME_BYTES:
        raise UserError(f"{file}: {size} bytes, expected {rows * FRAME_BYTES}; delete {path} to build it again")
    shape = (rows, FRAME_HEIGHT, FRAME_WIDTH)
    if cache:
        frames = np.fromfile(file, np.uint8).reshape(shape)
    else:  # copy on write, because torch warns about read-only arrays
        mapped = np.memmap(file, np.uint8, mode="c", shape=shape)
        frames = np.asarray(mapped)  # shares the memory; slicing a np.memmap would take several microseconds
    return SilhouetteStore(path, index, frames)


def open_data(path: Path | str, store_root: Path | str, cache: bool = False, **options: Any) -> SilhouetteStore:
    """Open a store, an aligned tree of images or a tree of OpenGait pickles. `options` are passed to `ready_store`."""
    return open_store(ready_store(path, store_root, **options), cache)


def ready_store(path: Path | str, store_root: Path | str, pickle: str = "", skip_bad: bool = False) -> Path:
    """Return the path of a store: `path` if it is a store, otherwise the store of the tree at `path`.

    The store of a tree is a subfolder of `store_root`. It is built if it is missing or damaged, or if the tree has
    changed according to `source_stamp`, which does not detect an overwritten frame in the middle of a sequence. If
    another process is building the store, this process waits.

    Args:
        pickle: the pickle to read if there are several pickles per view, see `choose_pickles`.
        skip_bad: leave unreadable images out instead of raising UserError.

    Raises:
        UsageError: if `path` does not exist, or if `pickle` is given for data without pickles.
        UserError: if the frames are not aligned, if the layout of the folders is wrong, or if images are unreadable and
            `skip_bad` is False.
    """
    path = Path(path)
    if is_store(path):
        if pickle:
            raise UsageError(f"--pickle {pickle}: {path} is a store, which contains no pickles; omit the option")
        return path
    if not path.is_dir():
        problem = "is a file, not a folder" if path.exists() else "no such folder"
        raise UsageError(f"{path}: {problem}; give a tree that pretreatment.py aligned, or a store, with --data_path")
    path = path.resolve()
    store = store_path(path, store_root, pickle)
    with locked(store.with_name(f".{store.name}.lock"), store, wait=True):
        source = current_source(path, store)
        if source is None:
            build_store(path, store, pickle, skip_bad)
        else:
            _report_unreadable(path, source["faults"], skip_bad)
    return store


def current_source(tree: Path, store: Path) -> dict[str, Any] | None:
    """Return the source of a store that is up to date, or None if the store must be built.

    If the store exists but must be built again, the reason is logged.
    """
    if not is_store(store):
        return None
    try:
        open_store(store)
        source, reason = store_index.read_source(store), f"{tree} has changed"
        if source is not None and source["stamp"] == source_stamp(tree, source["ends"]):
            return source
    except UserError as error:
        reason = str(error)
    log.info("building %s again, because it is outdated or damaged: %s", store, reason)
    return None


def store_path(tree: Path, store_root: Path | str, pickle: str = "") -> Path:
    """Return the path of the store of a tree: the name of the tree with a digest of its path and of `pickle`."""
    source = f"{tree}\0{pickle}" if pickle else str(tree)  # a NUL is not part of any path
    return Path(store_root) / f"{tree.name}-{hashlib.sha256(source.encode()).hexdigest()[:10]}"


def build_store(tree: Path, store: Path, pickle: str, skip_bad: bool) -> None:
    """Pack `tree` into `store` atomically. Sequences without frames are omitted."""
    sequences = choose_pickles(scan_tree(tree), pickle)
    # The stamp is taken before the frames are read, so that a change during the build makes the store stale.
    ends = first_and_last(sequences, tree)
    stamp = source_stamp(tree, ends)
    if stamp is None:
        raise UserError(f"{tree}: changed while it was listed; run the command again when the tree is complete")
    with atomic_folder(store, durable=True) as part:
        lengths, unreadable, notes = _pack_frames(sequences, part / FRAMES)
        _report_unreadable(tree, unreadable, skip_bad)
        for note, count in notes.items():
            log.info("%s: %s: %s", tree, counted(count, "sequence"), note)
        rows = [(s.subject, s.seq_type, s.view, length) for s, length in zip(sequences, lengths, strict=True)]
        kept = [row for row in rows if row[-1]]
        if not kept:
            found = f"no readable frame in {counted(len(sequences), 'sequence')}"
            raise UserError(f"{tree}: {found}; repair the files, or give another tree with --data_path")
        empty = ["/".join(labels) for *labels, length in rows if not length]
        if empty:
            omitted = counted(len(empty), "sequence")
            log.warning("omitting %s without a readable frame: %s", omitted, ", ".join(empty[:5]))
        store_index.write_index(part, kept)
        store_index.write_source(part, {"tree": str(tree), "stamp": stamp, "ends": ends, "faults": unreadable})


def _pack_frames(sequences: list[SequenceFolder], path: Path) -> tuple[list, list, Counter]:
    """Write the frames of all sequences to `path`.

    Returns:
        The number of frames of each sequence; a message for each unreadable file; and the number of sequences for each
        message that describes how frames were changed.
    """
    lengths: list[int] = []
    unreadable: list[str] = []
    notes: Counter[str] = Counter()
    files = sum(len(sequence.files) for sequence in sequences)
    workers = core_count() if files >= MIN_FILES_FOR_POOL else 1
    contents = map_in_processes(read_sequence, sequences, workers, chunk_size=8)
    bar = progress_bar(total=files, unit="files", what="packing")
    with path.open("wb") as file, bar:
        for sequence, (frames, messages, changes) in zip(sequences, contents, strict=True):
            unreadable += messages
            notes.update(changes)
            lengths.append(len(frames))
            file.write(np.ascontiguousarray(frames))
            bar.update(len(sequence.files))
    return lengths, unreadable, notes


def _report_unreadable(tree: Path, messages: list[str], skip_bad: bool) -> None:
    """Log unreadable files. Raises UserError if there are any, unless `skip_bad`."""
    for message in messages:
        log.warning("unreadable: %s", message)
    if messages and not skip_bad:
        found = f"{counted(len(messages), 'unreadable file')}, such as {messages[0]}"
        raise UserError(f"{tree}: {found}; repair the files, or pass --skip_bad to leave them out")
