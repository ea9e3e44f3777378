"""List the sequences in a tree of raw silhouettes, aligned silhouettes or OpenGait's pickles (see `layouts.py`)."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from model.common.errors import UsageError, UserError, os_error_line
from model.common.messages import progress_bar
from model.common.natural_order import natural_key
from model.data.raw import tree_errors
from model.data.raw.folders import PICKLE_SUFFIX, Folder
from model.data.raw.layouts import DEFAULT, LAYOUTS


@dataclass(frozen=True)
class SequenceFolder:
    """The folder of one sequence: its three labels, its path and the names of its files in natural order.

    `files` contains the names of the images. If there are no images, it contains the names of all pickles of OpenGait.
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


def scan_tree(root: Path | str, layout: str = DEFAULT) -> list[SequenceFolder]:
    """List all sequences below `root`, in natural order of subject, seq_type and view.

    Hidden files, and files that are neither images nor pickles, are ignored.

    Args:
        layout: a name in `LAYOUTS`.

    Raises:
        UsageError: if `root` is not a folder.
        UserError: if there are no images, if there are images at the wrong depth for the layout, if names do not fit
            the layout, if a folder cannot be read, or if a name is not printable text.
    """
    root = Path(root)
    try:
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder" if not root.exists() else f"{root}: is a file, not a folder")
        return _scan(root, layout)
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({os_error_line(error)})") from error


def _scan(root: Path, layout: str) -> list[SequenceFolder]:
    depth = LAYOUTS[layout].levels
    sequences = []
    top = Folder(root)
    tree_errors.reject_shallow_frames(top, root, layout)
    for first in progress_bar(top.subfolders, unit="subjects", what="listing"):
        folders = [Folder(first)]
        for _ in range(depth - 1):
            for folder in folders:
                tree_errors.reject_shallow_frames(folder, root, layout)
            folders = [Folder(inner) for folder in folders for inner in folder.subfolders]
        sequences += [sequence for folder in folders if (sequence := _sequence(folder, layout))]
    if not any(sequence.files for sequence in sequences):
        tree_errors.reject_tree_without_frames(root, layout)
    for sequence in sequences:
        if not sequence.files:
            tree_errors.reject_deep_frames(sequence.path, layout)
    if depth == 2:
        sequences.sort(key=lambda s: [natural_key(label) for label in (s.subject, s.seq_type, s.view)])
        for one, other in pairwise(sequences):
            if one.name == other.name:
                both = f"both are the sequence {one.name} in --layout {layout}; rename one of the folders"
                raise UserError(f"{one.path} and {other.path}: {both}")
    else:
        tree_errors.reject_nested_oumvlp([sequence.path for sequence in sequences if sequence.files])
    return sequences


def _sequence(folder: Folder, layout: str) -> SequenceFolder | None:
    """Return the sequence in a folder, or None for a folder without frames whose name does not fit the layout."""
    names, files = folder.path.parts[-LAYOUTS[layout].levels :], folder.frames
    labels_of = LAYOUTS[layout].labels_of
    labels = labels_of(*names) if labels_of else names
    if labels:
        return SequenceFolder(*labels, folder.path, files)
    if files:
        raise UserError(f"{folder.path}: does not fit --layout {layout}; expected {LAYOUTS[layout].path}")
    return None
