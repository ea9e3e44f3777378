"""What goes with bins: the `.info` list that the benchmark tool reads, the manifest that says whose they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from model.common.errors import NO_TEXT, UserError
from model.common.files import is_plain_name, read_json, whole_file
from model.data.index import SequenceIndex

T = TypeVar("T")

FORMAT = "gaitset-bins-2"
FILLER_PREFIX = "filler_"  # begins the name of a sample that only fills the last batch: its result is ignored
INFO_SIZE = 64  # width and height in the list; the tool ignores them for raw files, scripts expect these
LABELS = ("subject", "seq_type", "view")


class InfoEntry(NamedTuple):
    """A line of the `.info` list. `path` is as written there."""

    index: int
    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class Manifest:
    """What is in the bins.

    entries: in the order of their index, each with file, subject, seq_type, view, frames (those of the
    sequence), frames_used (of those, in the file), frames_padded, and the digest of the file's bytes.
    settings: what holds for all.
    """

    path: Path
    shape: tuple[int, ...]
    entries: list[dict[str, Any]]
    settings: dict[str, Any]

    @property
    def digests(self) -> dict[str, str]:
        """By stem of the bin's name."""
        return {Path(entry["file"]).stem: entry["digest"] for entry in self.entries}

    @property
    def labels(self) -> SequenceIndex:
        """Whose sequence each entry is; `frames` counts those before cutting and padding."""
        return SequenceIndex.from_lengths(
            *([entry[column] for entry in self.entries] for column in (*LABELS, "frames"))
        )

    def sequence(self, position: int) -> np.ndarray:
        """What one bin holds, as the silhouettes it was made of, without padding: uint8 [frames_used, 64, 44]."""
        entry = self.entries[position]
        folder = self.path.with_suffix("")
        try:
            frames = np.fromfile(folder / entry["file"], "<f4").reshape(self.shape)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / entry['file']}: no bin of shape {list(self.shape)} ({error})") from error
        used = entry["frames_used"]
        # Zero frames stand in front, repeated ones at the end.
        own = frames[len(frames) - used :] if self.settings.get("padding") == "zero" else frames[:used]
        return np.rint(own * 255).astype(np.uint8)


def manifest_path(folder: Path | str) -> Path:
    """CASIA-B-bin -> CASIA-B-bin.json"""
    folder = Path(folder)
    return folder.with_name(folder.name + ".json")


def digest_of(content: bytes | memoryview) -> str:
    """By which a bin, or a result, is told from others and from itself before it was damaged."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write_info(path: Path | str, files: Sequence[Path]) -> None:
    """The list of `files`, counted from 0. LF line ends everywhere."""
    lines = [f"{i} {file.as_posix()} {INFO_SIZE} {INFO_SIZE}\n" for i, file in enumerate(files)]
    with whole_file(path) as part:
        part.write_bytes("".join(lines).encode())


def read_info(path: Path | str) -> list[InfoEntry]:
    """The list, sorted by index. Raises UserError naming the line that is wrong. A path may hold blanks."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # an editor may have put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of bins ({error}); make it with --pre_process") from error
    entries: dict[int, InfoEntry] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = _entry_of(line)
        if entry is None:
            shown = line if len(line) < 200 else f"{line[:200]}..."
            raise UserError(f"{path}, line {number}: {shown!r} is not `index path width height`")
        if entry.index in entries:
            raise UserError(f"{path}, line {number}: index {entry.index} a second time; make the list anew")
        entries[entry.index] = entry
    if not entries:
        raise UserError(f"{path}: the list is empty; make it anew with --pre_process")
    return [entries[index] for index in sorted(entries)]


def _entry_of(line: str) -> InfoEntry | None:
    """None for a line that is no entry. A path may hold blanks, so the words around it are taken off."""
    first, _, rest = line.strip().partition(" ")
    words = rest.rsplit(maxsplit=2)
    if len(words) < 3 or not all(
        word.isascii() and word.isdecimal() and len(word) < 10 for word in (first, *words[1:])
    ):
        return None
    if NO_TEXT.search(words[0]):
        return None
    return InfoEntry(int(first), Path(words[0].strip()), int(words[1]), int(words[2]))


def read_manifest(path: Path | str) -> Manifest:
    """Raises UserError when `path` is no manifest, one that was changed, or one whose entries do not fit together."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; make the bins with --pre_process")
    content = read_json(path, sealed=True)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: no manifest of bins (format {FORMAT}); make it with --pre_process")
    entries, shape = content.pop("entries", None), content.get("shape")
    if not isinstance(entries, list) or not entries or len(entries) != content.get("count"):
        raise UserError(f"{path}: not as many entries as its count says; make the bins anew")
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise UserError(f"{path}: its shape is damaged; make the bins anew")
    if not all(isinstance(content.get(key), str) for key in ("dataset", "padding", "truncate")):
        raise UserError(f"{path}: its settings are damaged; make the bins anew")
    for i, entry in enumerate(entries):
        if not _is_sound(entry, i):
            raise UserError(f"{path}: entry {i} is damaged or out of order; make the bins anew")
    if len({Path(entry["file"]).stem for entry in entries}) != len(entries):
        raise UserError(f"{path}: two entries name the same file; make the bins anew")
    return Manifest(path, tuple(shape), entries, content)


def _is_sound(entry: Any, index: int) -> bool:
    texts = ("file", "digest", *LABELS)
    return (
        isinstance(entry, dict)
        and type(entry.get("index")) is int
        and entry["index"] == index
        and type(entry.get("frames")) is int
        and 0 < entry["frames"] < 1 << 31
        and all(isinstance(entry.get(key), str) and entry[key] and not NO_TEXT.search(entry[key]) for key in texts)
        and is_plain_name(entry["file"])
        and entry["file"].endswith(".bin")
    )


def fill_last_batch(items: Sequence[T], batch_size: int) -> tuple[list[T], int]:
    """The items in whole batches, the last one again and again where they are too few; and how many were added.

    A model of static shapes takes whole batches only, and no tool's document says what it does with fewer. Results of
    what was added are nobody's.
    """
    added = -len(items) % batch_size
    return [*items, *list(items[-1:]) * added], added
