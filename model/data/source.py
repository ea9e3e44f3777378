"""Read aligned sequences from folders of 64×64 images or from OpenGait's pickles.

This module does not import torch because worker processes import it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model.common.errors import UserError
from model.common.geometry import ALIGNED_WIDTH, FRAME_HEIGHT, FRAME_WIDTH
from model.data.array_pickle import read_array
from model.data.raw.silhouette import BadImage, cut_sides, read_image, read_regular_file
from model.data.raw.tree import SequenceFolder, is_folder

MAX_PICKLE_BYTES = 1 << 29  # more than an hour of silhouettes


def read_pickle(path: Path) -> np.ndarray:
    """Read the silhouettes of an OpenGait pickle, uint8 [frames, 64, 44], without unpickling (see `array_pickle`).

    Raises BadImage if the file is not such a pickle.
    """
    data = read_regular_file(path, MAX_PICKLE_BYTES)
    try:
        array = read_array(data)
    except ValueError as error:
        raise BadImage(f"{path}: not a pickle of a NumPy array ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 3:
        raise BadImage(f"{path}: must contain uint8 [frames, {FRAME_HEIGHT}, {FRAME_WIDTH} to {ALIGNED_WIDTH}]")
    _reject_raw(array.shape[1:], path)
    return cut_sides(array)


def read_sequence(sequence: SequenceFolder) -> tuple[np.ndarray, list[str]]:
    """Read a sequence.

    Returns:
        The readable frames, uint8 [frames, 64, 44], and one message per unreadable file.

    Raises:
        UserError: if frames do not have the aligned size, as in a tree of raw silhouettes.
    """
    if sequence.is_pickle:
        try:
            return read_pickle(sequence.path / sequence.files[0]), []
        except BadImage as error:
            return np.empty((0, FRAME_HEIGHT, FRAME_WIDTH), np.uint8), [str(error)]
    frames, unreadable = [], []
    for file in sequence.files:
        try:
            frame = read_image(sequence.path / file)
        except BadImage as error:
            unreadable.append(str(error))
            continue
        _reject_raw(frame.shape, sequence.path / file)
        frames.append(cut_sides(frame))
    return np.stack(frames) if frames else np.empty((0, FRAME_HEIGHT, FRAME_WIDTH), np.uint8), unreadable


def _reject_raw(shape: tuple[int, ...], path: Path) -> None:
    """Raise UserError if a frame does not have the aligned size, because then the whole tree is raw."""
    height, width = shape
    if height != FRAME_HEIGHT or not FRAME_WIDTH <= width <= ALIGNED_WIDTH:
        raise UserError(
            f"{path}: {height}×{width}, expected aligned frames of {FRAME_HEIGHT}×{ALIGNED_WIDTH}: run "
            "pretreatment.py on this tree and use its output"
        )


def first_and_last(sequences: list[SequenceFolder], root: Path) -> dict[str, tuple[str, str]]:
    """Return the first and last file of each non-empty folder, relative to `root`, for `source_stamp`."""
    return {s.path.relative_to(root).as_posix(): (s.files[0], s.files[-1]) for s in sequences if s.files}


def source_stamp(root: Path, ends: Mapping[str, tuple[str, str]]) -> str | None:
    """Return a digest that changes with the tree at `root`, or None if a part of the tree is missing.

    It covers the list of view folders, their modification times, and size and modification time of the first and last
    file of each (to detect tools that overwrite all frames). These are three stat calls per sequence instead of about
    eighty: 0.3 s for CASIA-B.
    """
    digest = hashlib.sha256()
    existing = set()
    for folder in _view_folders(str(root), 3):
        relative = Path(folder).relative_to(root).as_posix() if os.sep != "/" else folder[len(str(root)) + 1 :]
        if relative in ends:
            existing.add(relative)
            paths = [folder, *(f"{folder}/{name}" for name in ends[relative])]
        else:
            paths = [folder]  # an empty folder, whose time changes when files are added
        digest.update(relative.encode())
        for number, path in enumerate(paths):
            try:
                status = os.stat(path)  # noqa: PTH116, 40,000 Path objects would double the time
            except FileNotFoundError:
                return None
            except OSError:  # for example a link to itself, which is reported when it is read
                digest.update(b" unreadable")
                continue
            size = status.st_size if number else 0  # the size of a folder is not meaningful
            digest.update(b" %d %d" % (status.st_mtime_ns, size))
    return digest.hexdigest() if len(existing) == len(ends) else None


def _view_folders(folder: str, depth: int) -> list[str]:
    """List the folders `depth` levels below `folder`, sorted."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and is_folder(entry))
    if depth == 1:
        return [f"{folder}/{name}" for name in names]
    return [path for name in names for path in _view_folders(f"{folder}/{name}", depth - 1)]
