"""The two JSON files of a store: the labels of the frames, and the source tree with a stamp that detects changes.

Each file contains a checksum, because a changed label would lead to a wrong accuracy table without an error.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.common.files import is_plain_name
from model.common.geometry import LABELS
from model.common.json_files import seal
from model.common.schema import check, read_checked
from model.data.index import SequenceIndex
from model.data.raw.folders import is_folder
from model.data.raw.tree import SequenceFolder

FORMAT = "gaitset-store-2"
INDEX, SOURCE = "index.json", "source.json"


_SOURCE = {"stamp": str, "ends": {str: [str]}, "faults": [str]}


def read_index(path: Path) -> SequenceIndex:
    """Read the index of the store at `path`. Raises UserError if the index is damaged or has another version."""
    schema = {"format": FORMAT, "frames": [range(1, 1 << 40)], **{name: [str] for name in LABELS}}
    problem, advice = f"damaged, or not a store of this version ({FORMAT})", f"delete {path} to build it again"
    content = read_checked(path / INDEX, schema, problem, advice, sealed=True)
    count = len(content["frames"])
    try:
        # The label columns are encoded as in `write_index`.
        check(content, {f"{name}_code": [range(len(content[name]))] for name in LABELS})
        columns = [np.asarray(content[name], np.str_)[content[f"{name}_code"]] for name in LABELS]
        if not count or any(len(column) != count for column in columns):
            raise ValueError(f"the columns are empty or have different lengths; frames has {count} values")
    except ValueError as error:
        raise UserError(f"{path / INDEX}: {problem} ({error}); {advice}") from error
    return SequenceIndex.from_lengths(*columns, content["frames"])


def write_index(folder: Path, sequences: Iterable[tuple[str, str, str, int]]) -> None:
    """Write the index of a store.

    Each label column is stored as a list of its distinct values and, for each sequence, a position in this list.

    Args:
        sequences: subject, seq_type, view and number of frames of each sequence, in the order of the file of frames.
    """
    *columns, frames = zip(*sequences, strict=True)
    index: dict[str, Any] = {"format": FORMAT}
    for name, labels in zip(LABELS, columns, strict=True):
        values, codes = np.unique(labels, return_inverse=True)
        index |= {name: values.tolist(), f"{name}_code": codes.tolist()}
    index["frames"] = [int(number) for number in frames]
    _write_sealed(folder / INDEX, index)


def _write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with a checksum, all on one line, because indented columns would have one line per sequence."""
    path.write_text(seal(json.dumps(content)), encoding="utf-8")


def read_source(store: Path) -> dict[str, Any] | None:
    """Return the source of a store (see `write_source`), or None if the file is damaged."""
    try:
        source = read_checked(store / SOURCE, _SOURCE, "damaged", "build the store again", sealed=True)
    except UserError:
        return None
    return source if all(is_plain_name(name) for pair in source["ends"].values() for name in pair) else None


def write_source(folder: Path, source: dict[str, Any]) -> None:
    """Write the source of a store: tree, stamp and ends (see `source_stamp`), and a message per unreadable file."""
    _write_sealed(folder / SOURCE, source)


def first_and_last(sequences: list[SequenceFolder], root: Path) -> dict[str, tuple[str, str]]:
    """Return the first and last file of each non-empty folder, relative to `root`, for `source_stamp`."""
    return {s.path.relative_to(root).as_posix(): (s.files[0], s.files[-1]) for s in sequences if s.files}


def source_stamp(root: Path, ends: Mapping[str, tuple[str, str]]) -> str | None:
    """Return a digest that changes with the tree at `root`, or None if a part of the tree is missing.

    The digest covers the names and modification times of all view folders. To detect tools that overwrite all frames,
    it also covers the size and modification time of the first and last file of each folder (`ends`). This takes three
    stat calls per sequence (0.3 s for CASIA-B), instead of one call for each of about eighty frames.
    """
    digest = hashlib.sha256()
    existing = set()
    for relative in _view_folders(root, "", 3):
        folder = f"{root}/{relative}"
        if relative in ends:
            existing.add(relative)
            paths = [folder, *(f"{folder}/{name}" for name in ends[relative])]
        else:
            paths = [folder]  # an empty folder; its modification time changes when files are added
        digest.update(relative.encode())
        for number, path in enumerate(paths):
            try:
                status = os.stat(path)  # noqa: PTH116, 40,000 Path objects would double the time
            except FileNotFoundError:
                return None
            except OSError:  # for example a link to itself; the error is reported when the file is read
                digest.update(b" unreadable")
                continue
            size = status.st_size if number else 0  # the size of a folder is not meaningful
            digest.update(b" %d %d" % (status.st_mtime_ns, size))
    return digest.hexdigest() if len(existing) == len(ends) else None


def _view_folders(root: Path, inner: str, depth: int) -> Iterator[str]:
    """Yield the sorted paths, relative to `root`, of the folders `depth` levels below its subfolder `inner`."""
    if not depth:
        yield inner
        return
    with os.scandir(f"{root}/{inner}") as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and is_folder(entry))
    for name in names:
        yield from _view_folders(root, f"{inner}/{name}" if inner else name, depth - 1)
