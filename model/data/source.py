"""Aligned sequences as users bring them: folders of 64×64 images, or OpenGait's pickles.

No torch here: worker processes import this module.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model.common.errors import UserError
from model.data.array_pickle import read_array
from model.data.raw.silhouette import ALIGNED_WIDTH, HEIGHT, WIDTH, BadImage, cut_sides, read_image, read_regular_file
from model.data.raw.tree import SequenceFolder, is_folder

MOST_PICKLE_BYTES = 1 << 29  # more than an hour of silhouettes


def read_pickle(path: Path) -> np.ndarray:
    """The silhouettes of an OpenGait pickle. Returns uint8 [frames, 64, 44]; raises BadImage naming the file.

    Nothing in it is run, see `array_pickle`.
    """
    data = read_regular_file(path, MOST_PICKLE_BYTES)
    try:
        array = read_array(data)
    except ValueError as error:
        raise BadImage(f"{path}: not a pickle of a numpy array ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 3:
        raise BadImage(f"{path}: must hold uint8 [frames, {HEIGHT}, {WIDTH} to {ALIGNED_WIDTH}]")
    _refuse_raw(array.shape[1:], path)
    return cut_sides(array)


def read_sequence(sequence: SequenceFolder) -> tuple[np.ndarray, list[str]]:
    """Every readable frame of a sequence, uint8 [frames, 64, 44], and a line for each that is not.

    Raises UserError where frames have the size of raw ones: then the tree is the wrong one.
    """
    if sequence.is_pickle:
        try:
            return read_pickle(sequence.path / sequence.files[0]), []
        except BadImage as error:
            return np.empty((0, HEIGHT, WIDTH), np.uint8), [str(error)]
    frames, faults = [], []
    for file in sequence.files:
        try:
            frame = read_image(sequence.path / file)
        except BadImage as error:
            faults.append(str(error))
            continue
        _refuse_raw(frame.shape, sequence.path / file)
        frames.append(cut_sides(frame))
    return np.stack(frames) if frames else np.empty((0, HEIGHT, WIDTH), np.uint8), faults


def _refuse_raw(shape: tuple[int, ...], path: Path) -> None:
    height, width = shape
    if height != HEIGHT or not WIDTH <= width <= ALIGNED_WIDTH:
        raise UserError(
            f"{path}: {height}×{width} where aligned frames of {HEIGHT}×{ALIGNED_WIDTH} are needed: run "
            "pretreatment.py on this tree first and give its output"
        )


def first_and_last(sequences: list[SequenceFolder], root: Path) -> dict[str, tuple[str, str]]:
    """For each non-empty folder, relative to `root`, its first and its last file: what `source_stamp` looks at."""
    return {s.path.relative_to(root).as_posix(): (s.files[0], s.files[-1]) for s in sequences if s.files}


def source_stamp(root: Path, ends: Mapping[str, tuple[str, str]]) -> str | None:
    """A digest that changes when the tree below `root` does; None when something of it is gone.

    Looked at are which view folders there are, when each last gained or lost a file, and size and time of its
    first and last file (so a tool that writes all frames anew in place is noticed, too). That is three
    looks a sequence where a look at each file would be eighty: 0.3 s for all of CASIA-B.
    """
    digest = hashlib.sha256()
    found = set()
    for folder in _view_folders(str(root), 3):
        relative = Path(folder).relative_to(root).as_posix() if os.sep != "/" else folder[len(str(root)) + 1 :]
        if relative in ends:
            found.add(relative)
            looks = [folder, *(f"{folder}/{name}" for name in ends[relative])]
        else:
            looks = [folder]  # an empty one; once it has frames, its time changes
        digest.update(relative.encode())
        for number, look in enumerate(looks):
            try:
                status = os.stat(look)  # noqa: PTH116, a Path for each of 40,000 looks would double the time
            except FileNotFoundError:
                return None
            except OSError:  # a link that leads to itself: it is named when it is read
                digest.update(b" unreadable")
                continue
            size = status.st_size if number else 0  # of a folder it means nothing
            digest.update(b" %d %d" % (status.st_mtime_ns, size))
    return digest.hexdigest() if len(found) == len(ends) else None


def _view_folders(folder: str, depth: int) -> list[str]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and is_folder(entry))
    if depth == 1:
        return [f"{folder}/{name}" for name in names]
    return [path for name in names for path in _view_folders(f"{folder}/{name}", depth - 1)]
