"""The folders and frames in a folder of a tree of silhouettes. Hidden names are ignored."""

from __future__ import annotations

import os
from pathlib import Path

from model.common.errors import NOT_PRINTABLE, UserError
from model.common.natural_order import natural_key

IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
PICKLE_SUFFIX = ".pkl"
VIDEO_RECORDS = ".silhouettes"  # folder in a tree that `python -m model.silhouettes` has written


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder` in natural order, without hidden ones."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and is_folder(entry)]
    return [folder / _printable(name, folder) for name in sorted(names, key=natural_key)]


def is_folder(entry: os.DirEntry) -> bool:
    """Return whether an entry is a folder or a link to a folder. A link to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _printable(name: str, folder: Path) -> str:
    """Return `name`. Raises UserError if it cannot be a label in lists, logs and JSON: it must be printable text."""
    if NOT_PRINTABLE.search(name):
        shown = name.encode("utf-8", "backslashreplace").decode().encode("unicode_escape").decode()
        raise UserError(
            f"{folder}: contains the name {shown!r}, which has control characters or is not UTF-8; rename it"
        )
    return name


def frames_of(folder: Path) -> tuple[str, ...]:
    """Return the names of the images in natural order. Without images, return those of the pickles."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    frames = images or [name for name in names if name.endswith(PICKLE_SUFFIX)]
    return tuple(_printable(name, folder) for name in sorted(frames, key=natural_key))
