"""The folder tree ROOT/<subject>/<seq_type>/<view>/ of raw silhouettes, aligned silhouettes and OpenGait's pickles."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from model.common.errors import NOT_PRINTABLE, UsageError, UserError, os_error_line
from model.common.messages import progress_bar
from model.common.natural_order import natural_key

IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
PICKLE_SUFFIX = ".pkl"
LAYOUT = "ROOT/<subject>/<condition-take>/<view>/*.png, for example CASIA-B/001/nm-01/000/001-nm-01-000-001.png"


@dataclass(frozen=True)
class SequenceFolder:
    """The folder of one sequence: its three labels, its path and the names of its frames in natural order.

    `files` contains the names of the images, or of all pickles in a tree of OpenGait. It can be empty.
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
        return bool(self.files) and self.files[0].endswith(PICKLE_SUFFIX)

    def kind(self, pickle: str) -> str:
        """Return the stem of a pickle with `<view>` in place of the view: `000-sils.pkl` -> `<view>-sils`."""
        return pickle.removesuffix(PICKLE_SUFFIX).replace(self.view, "<view>", 1)


def scan_tree(root: Path | str, quiet: bool = True) -> list[SequenceFolder]:
    """List all sequences below `root`, in natural order of subject, seq_type and view.

    Hidden files and files of other types are ignored.

    Args:
        quiet: show no progress bar.

    Raises:
        UsageError: if `root` is not a folder.
        UserError: if there are no images, if there are images at another depth than in `LAYOUT`, if a folder cannot be
            read, or if a name is not printable text.
    """
    root = Path(root)
    try:
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder" if not root.exists() else f"{root}: is a file, not a folder")
        return _scan(root, quiet)
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({os_error_line(error)})") from error


def _scan(root: Path, quiet: bool) -> list[SequenceFolder]:
    _reject_images(root, root, "the folder of a sequence")
    sequences = []
    for subject in progress_bar(_folders(root), unit="subjects", what="listing", quiet=quiet):
        _reject_images(subject, root, "the folder of a take")
        for seq_type in _folders(subject):
            _reject_images(seq_type, root, "the folder of a subject")
            for view in _folders(seq_type):
                files = _frames_of(view)
                if not files:
                    _reject_deeper_images(view, root)
                sequences.append(SequenceFolder(subject.name, seq_type.name, view.name, view, files))
    if not any(sequence.files for sequence in sequences):
        raise UserError(f"{root}: contains no images; expected {LAYOUT}")
    return sequences


def _folders(folder: Path) -> list[Path]:
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


def _frames_of(folder: Path) -> tuple[str, ...]:
    """Return the names of the images in natural order. Without images, return those of the pickles."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    frames = images or [name for name in names if name.endswith(PICKLE_SUFFIX)]
    return tuple(_printable(name, folder) for name in sorted(frames, key=natural_key))


def _has_frames(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        names = [entry.name.lower() for entry in entries if not entry.name.startswith(".")]
    return any(name.endswith((*IMAGE_SUFFIXES, PICKLE_SUFFIX)) for name in names)


def _reject_images(folder: Path, root: Path, description: str) -> None:
    """Raise UserError if there are images in `folder`, which is above the level of sequences."""
    if _has_frames(folder):
        raise UserError(f"{folder}: contains images, so {root} appears to be {description}; expected {LAYOUT}")


def _reject_deeper_images(view: Path, root: Path) -> None:
    """Raise UserError if there are images one level below the level of sequences."""
    for folder in _folders(view):
        if _has_frames(folder):
            raise UserError(
                f"{folder}: contains images one level too deep below {root}; expected {LAYOUT}; pass the folder that "
                "contains the subjects"
            )
