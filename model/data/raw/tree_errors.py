"""Errors for trees with frames at the wrong depth. The messages name the missing level or the folder to give."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from model.common.errors import UserError, counted
from model.common.natural_order import natural_key
from model.data.raw.folders import PICKLE_SUFFIX, Folder
from model.data.raw.layouts import LAYOUTS, recognized

MAX_SEARCHED_FOLDERS = 20_000  # the given folder can be / or a home folder
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def reject_shallow_frames(folder: Folder, root: Path, layout: str) -> None:
    """Raise UserError if `folder`, which is above the level of the sequences, contains frames."""
    frames = folder.frames
    if not frames:
        return
    levels, names = LAYOUTS[layout].levels, folder.path.relative_to(root).parts
    missing = levels - len(names)
    parents = [root.resolve(), *root.resolve().parents]
    above = parents[min(missing, len(parents) - 1)]  # at most the root of the file system
    if folder.subfolders:
        problem = " next to folders: move the frames to the folder of a sequence or delete the frames"
    elif not names:
        problem = f", so it is not the root of a tree; if it is the folder of a sequence, give {above}"
    elif levels == 3 and missing == 1:
        problem = f", so {_missing_view(names, root, above, frames[0].endswith(PICKLE_SUFFIX))}"
    else:
        lacking = f"the tree lacks {missing} of {levels} levels of folders"
        problem = f", so {lacking}; if {root} is a part of a tree, give {above}"
    raise UserError(f"{folder.path}: contains frames (such as {frames[0]}){problem}; expected {LAYOUTS[layout].path}")


def _missing_view(names: Sequence[str], root: Path, above: Path, is_pickle: bool) -> str:
    """Describe the error and the remedy for a tree with only two of three levels of folders.

    Either the level of the views is missing, or the user gave the folder of one subject.
    """
    if re.fullmatch(r"[A-Za-z]+-?[0-9]+", names[0]) and re.fullmatch(r"[0-9]{3}", names[1]):  # nm-01/090
        return f"{root} appears to be the folder of a subject: give {above}"
    known = recognized(*names)
    if is_pickle:
        remedy = f"move each pickle to a folder of its view, such as {'/'.join(names)}/000"
    elif known:
        return f"the level <view> is missing: run pretreatment.py with --layout {known}"
    else:
        remedy = "for ROOT/<subject>/<sequence>/<frames>, run pretreatment.py with --layout hid"
    return f"the level <view> is missing: {remedy}; if {root} is the folder of a subject, give {above}"


def reject_deep_frames(sequence: Path, layout: str) -> None:
    """Raise UserError if a subfolder of an empty sequence contains frames. Other sequences of the tree have frames."""
    for folder in Folder(sequence).subfolders:
        frames = Folder(folder).frames
        if frames:
            raise UserError(
                f"{folder}: contains frames (such as {frames[0]}) one level too deep, unlike other sequences of this "
                f"tree; move the frames to {sequence}; expected {LAYOUTS[layout].path}"
            )


def reject_tree_without_frames(root: Path, layout: str) -> None:
    """Raise UserError because no frames are at the depth of the layout.

    If there are frames at a greater depth, the message names the folder to give.
    """
    expected = f"expected {LAYOUTS[layout].path}"
    frame, other = _first_files(root)
    if frame is None:
        found = f"; the first file is {other}" if other else ""
        unpack = ", unpack the archives first" if other and other.suffix.lower() in ARCHIVES else ""
        raise UserError(f"{root}: contains no images{found}{unpack}; {expected}")
    levels = LAYOUTS[layout].levels
    too_deep = len(frame.relative_to(root).parts) - 1 - levels
    known = recognized(frame.parent.parent.name, frame.parent.name)
    if known and levels == 3:
        advice = f"run pretreatment.py with --layout {known} on {frame.parents[2]}"
    else:
        advice = f"give {frame.parents[levels]}" + (" or omit --layout" if levels == 2 else "")
    found = f"the first frame is {frame}, {counted(too_deep, 'level')} too deep"
    raise UserError(f"{root}: {found}: {advice}; {expected}")


def _first_files(root: Path) -> tuple[Path | None, Path | None]:
    """Return (first frame below `root`, None). If there are no frames: (None, first other file or None)."""
    other, seen = None, set()
    for folder, inner, names in os.walk(root, followlinks=True):  # skips folders that cannot be listed
        if len(seen) == MAX_SEARCHED_FOLDERS:
            break
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder that was already searched
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted((name for name in inner if not name.startswith(".")), key=natural_key)
        frames = Folder(Path(folder)).frames
        if frames:
            return Path(folder, frames[0]), None
        files = sorted((name for name in names if not name.startswith(".")), key=natural_key)
        other = other or (Path(folder, files[0]) if files else None)
    return None, other


def reject_nested_oumvlp(sequences: Sequence[Path]) -> None:
    """Raise UserError if the given folder is one level above the root of OU-MVLP.

    Without this check, the folders `Silhouette_<view>-<take>` would be read as takes.
    """
    if all(re.fullmatch(r"Silhouette_[0-9]{3}-[0-9]{2}", path.parent.name) for path in sequences):
        raise UserError(
            f"{sequences[0]}: appears to have the layout {LAYOUTS['oumvlp'].path}; run pretreatment.py with --layout "
            f"oumvlp on {sequences[0].parents[1]}"
        )
