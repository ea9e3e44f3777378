"""List the subfolders and the frames of a folder in a tree of silhouettes. Hidden files and folders are ignored."""

import os
from pathlib import Path

from model.common.errors import NOT_PRINTABLE, UserError
from model.common.natural_order import natural_key

IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
PICKLE_SUFFIX = ".pkl"
VIDEO_RECORDS = ".silhouettes"  # hidden folder that `python -m model.silhouettes` writes into its output tree


class Folder:
    """A folder of a tree. It is listed once, when the object is created."""

    def __init__(self, path: Path):
        self.path = path
        with os.scandir(path) as entries:
            self._entries = [entry for entry in entries if not entry.name.startswith(".")]

    @property
    def subfolders(self) -> list[Path]:
        """The folders in this folder, in natural order."""
        names = [entry.name for entry in self._entries if is_folder(entry)]
        return [self.path / _printable(name, self.path) for name in sorted(names, key=natural_key)]

    @property
    def frames(self) -> tuple[str, ...]:
        """The names of the images, or of the pickles if there are no images, in natural order."""
        names = [entry.name for entry in self._entries]
        images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        frames = images or [name for name in names if name.endswith(PICKLE_SUFFIX)]
        return tuple(_printable(name, self.path) for name in sorted(frames, key=natural_key))


def is_folder(entry: os.DirEntry) -> bool:
    """Return whether an entry is a folder or a link to a folder. Returns False for a link that points to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _printable(name: str, folder: Path) -> str:
    """Return `name`. Raises UserError if it is not printable text, which lists, logs and JSON files need."""
    if NOT_PRINTABLE.search(name):
        shown = name.encode("utf-8", "backslashreplace").decode().encode("unicode_escape").decode()
        raise UserError(f"{folder}: the name {shown!r} contains control characters or is not UTF-8; rename it")
    return name
