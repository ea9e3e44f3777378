"""The folder tree ROOT/<subject>/<seq_type>/<view>/ that raw, aligned and OpenGait data share."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from model.common.errors import NOT_PRINTABLE, UsageError, UserError, os_error_line
from model.common.messages import progress_bar

IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
PICKLE_SUFFIX = ".pkl"
LAYOUT = "ROOT/<subject>/<condition-take>/<view>/*.png, for example CASIA-B/001/nm-01/000/001-nm-01-000-001.png"


@dataclass(frozen=True)
class SequenceFolder:
    """One view folder: its three labels, where it is, and the names of its frames in natural order.

    `files` holds image names, or the name of the one pickle of an OpenGait tree; it may be empty.
    """

    subject: str
    seq_type: str
    view: str
    path: Path
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.seq_type}/{self.view}"

    @property
    def is_pickle(self) -> bool:
        return len(self.files) == 1 and self.files[0].endswith(PICKLE_SUFFIX)


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sorts 2.png before 10.png: which frames are the first hundred must not depend on zero padding."""
    parts = re.split(r"([0-9]+)", name)  # not every character that is called a digit is one of a number
    return [(0, int(part)) if part.isascii() and part.isdecimal() else (1, part) for part in parts if part]


def scan_tree(root: Path | str, quiet: bool = True) -> list[SequenceFolder]:
    """List every sequence below `root`, sorted by subject, seq_type and view, with a bar unless `quiet`.

    Hidden names and files of other kinds are passed over. Raises UsageError when `root` is no folder,
    UserError when images stand at another depth than `LAYOUT` says (naming the folder) or nowhere, when a folder
    may not be read, and for names that are no text.
    """
    root = Path(root)
    try:
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder" if not root.exists() else f"{root}: is a file, not a folder")
        return _scanned(root, quiet)
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({os_error_line(error)})") from error


def _scanned(root: Path, quiet: bool) -> list[SequenceFolder]:
    _refuse_images(root, root, "the folder of one sequence")
    sequences = []
    for subject in progress_bar(_folders(root), unit="subjects", what="listing", quiet=quiet):
        _refuse_images(subject, root, "the folder of one take")
        for seq_type in _folders(subject):
            _refuse_images(seq_type, root, "the folder of one subject")
            for view in _folders(seq_type):
                files = _frames_of(view)
                if not files:
                    _refuse_deeper(view, root)
                sequences.append(SequenceFolder(subject.name, seq_type.name, view.name, view, files))
    if not any(sequence.files for sequence in sequences):
        raise UserError(f"{root}: no images in it; expected {LAYOUT}")
    return sequences


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and is_folder(entry)]
    return [folder / _plain(name, folder) for name in sorted(names, key=natural_key)]


def is_folder(entry: os.DirEntry) -> bool:
    """Whether it is one, or a link to one; not for a link that leads to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _plain(name: str, folder: Path) -> str:
    """Names become labels in lists, logs and JSON: they must be text of one line. UserError for others."""
    if NOT_PRINTABLE.search(name):
        shown = name.encode("utf-8", "backslashreplace").decode().encode("unicode_escape").decode()
        raise UserError(f"{folder}: the name {shown!r} in it holds control characters or is no UTF-8; rename it")
    return name


def _frames_of(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    if images:
        return tuple(_plain(name, folder) for name in sorted(images, key=natural_key))
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIX)]
    if len(pickles) > 1:  # OpenGait's multi-modal trees; the silhouettes bear the name of the view
        pickles = [name for name in pickles if name == folder.name + PICKLE_SUFFIX]
        if not pickles:
            raise UserError(f"{folder}: several pickles and none called {folder.name}{PICKLE_SUFFIX}")
    return tuple(pickles)


def _has_frames(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        names = [entry.name.lower() for entry in entries if not entry.name.startswith(".")]
    return any(name.endswith((*IMAGE_SUFFIXES, PICKLE_SUFFIX)) for name in names)


def _refuse_images(folder: Path, root: Path, what: str) -> None:
    if _has_frames(folder):
        raise UserError(
            f"{folder}: images stand here, too near the top of {root}, which looks like {what}; expected {LAYOUT}"
        )


def _refuse_deeper(view: Path, root: Path) -> None:
    for folder in _folders(view):
        if _has_frames(folder):
            raise UserError(
                f"{folder}: images stand here, one folder too deep below {root}; expected {LAYOUT}, "
                "so give the folder that holds the subjects"
            )
