"""Read and write the two files next to a folder of input files: the `.info` list, and the manifest with the labels."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from model.common.errors import NOT_PRINTABLE, UserError
from model.common.files import is_plain_name, write_file
from model.common.geometry import FLOAT32, LABELS
from model.common.schema import read_checked
from model.data.index import SequenceIndex

T = TypeVar("T")

FORMAT = "gaitset-bins-2"
FILLER_PREFIX = "filler_"  # file name prefix of samples that only fill the last batch; their results are ignored
INFO_SIZE = 64  # width and height in the list: Ascend's tool ignores them for raw files, but scripts expect 64 each
_LINE = re.compile(r"([0-9]{1,9}) (.*\S)\s+[0-9]{1,9}\s+[0-9]{1,9}")  # index, path, width and height
_WRITE_AGAIN = "write the input files again with test.py --pre_process"


@dataclass(frozen=True)
class Manifest:
    """Contents of a folder of input files.

    Attributes:
        path: the JSON file that this manifest was read from or written to.
        shape: [frames, height, width] of every input file.
        entries: one dict per input file, sorted by index. The keys are index, file, subject, seq_type, view, frames
            (length of the sequence), frames_used (number of its frames in the file), frames_padded (number of added
            frames), and digest (checksum of the file's bytes).
        settings: values that apply to all files.
    """

    path: Path
    shape: tuple[int, ...]
    entries: list[dict[str, Any]]
    settings: dict[str, Any]

    @cached_property  # callers read the dict once per file
    def digests(self) -> dict[str, str]:
        """Checksum of each input file, by the file's name without suffix."""
        return {Path(entry["file"]).stem: entry["digest"] for entry in self.entries}

    @property
    def labels(self) -> SequenceIndex:
        """Labels of each entry; `frames` is the length of the sequence before truncation and padding."""
        return SequenceIndex.from_lengths(
            *([entry[column] for entry in self.entries] for column in (*LABELS, "frames"))
        )

    def sequence(self, position: int) -> np.ndarray:
        """Read the silhouettes of one input file, without padding: uint8 [frames_used, 64, 44]."""
        entry = self.entries[position]
        file = self.path.with_suffix("") / entry["file"]
        try:
            frames = np.fromfile(file, FLOAT32).reshape(self.shape)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{file}: cannot be read as float32 values of shape {list(self.shape)} ({error}); {_WRITE_AGAIN}"
            ) from error
        used = entry["frames_used"]
        # Zero padding precedes the sequence, and repeated frames follow it.
        frames = frames[len(frames) - used :] if self.settings.get("padding") == "zero" else frames[:used]
        return np.rint(frames * 255).astype(np.uint8)


def manifest_path(folder: Path | str) -> Path:
    """Return the manifest's path for a folder of input files: CASIA-B-bin -> CASIA-B-bin.json."""
    folder = Path(folder)
    return folder.with_name(folder.name + ".json")


def digest_of(content: bytes | memoryview) -> str:
    """Return the checksum of the content of an input file or a result file."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write_info(path: Path | str, files: Sequence[Path]) -> None:
    """Write the `.info` list of `files`, numbered from 0, with LF line ends on every system."""
    lines = [f"{i} {file.as_posix()} {INFO_SIZE} {INFO_SIZE}\n" for i, file in enumerate(files)]
    write_file(path, "".join(lines))


def read_info(path: Path | str) -> list[Path]:
    """Return the paths in an `.info` list, sorted by index and spelled as in the list. Paths may contain spaces.

    Raises:
        UserError: the list cannot be read or is empty, or a line is malformed or repeats an index.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # -sig: editors may add a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"{path}: the list of input files cannot be read ({reason}); {_WRITE_AGAIN}") from error
    files: dict[int, Path] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or NOT_PRINTABLE.search(match[2]):
            shown = line if len(line) < 200 else f"{line[:200]}..."
            raise UserError(
                f"{path}, line {number}: expected `index path width height`, found {shown!r}; {_WRITE_AGAIN}"
            )
        if int(match[1]) in files:
            raise UserError(f"{path}, line {number}: index {int(match[1])} occurs twice; {_WRITE_AGAIN}")
        files[int(match[1])] = Path(match[2].strip())
    if not files:
        raise UserError(f"{path}: the list of input files is empty; {_WRITE_AGAIN}")
    return [files[index] for index in sorted(files)]


def read_manifest(path: Path | str) -> Manifest:
    """Read a manifest and check its checksum, types and order.

    Raises:
        UserError: `path` does not exist or is not a manifest, its content was changed, or its entries contradict each
            other.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; write the input files with test.py --pre_process")
    content = read_checked(path, _SCHEMA, f"damaged, or not a manifest ({FORMAT})", _WRITE_AGAIN, sealed=True)
    entries, count = content.pop("entries"), content["count"]
    stems = {Path(entry["file"]).stem for entry in entries}
    if not 0 < len(entries) == len(stems) == count:
        raise UserError(
            f"{path}: found {len(entries)} entries with {len(stems)} different file names, but the count is {count}; "
            f"{_WRITE_AGAIN}"
        )
    for i, entry in enumerate(entries):
        if entry["index"] != i or not _has_valid_texts(entry):
            raise UserError(f"{path}: entry {i} is damaged or not in order; {_WRITE_AGAIN}")
    return Manifest(path, tuple(content["shape"]), entries, content)


_TEXTS = ("file", "digest", *LABELS)
_LENGTH = range(1, 1 << 31)
_ENTRY = {"index": int, **dict.fromkeys(_TEXTS, str), "frames": _LENGTH, "frames_used": _LENGTH}
_SCHEMA = {
    "format": FORMAT, **dict.fromkeys(("dataset", "padding", "truncate"), str), "shape": [_LENGTH], "count": int,
    "entries": [_ENTRY],
}  # fmt: skip


def _has_valid_texts(entry: dict[str, Any]) -> bool:
    printable = all(entry[key] and not NOT_PRINTABLE.search(entry[key]) for key in _TEXTS)
    return printable and is_plain_name(entry["file"]) and entry["file"].endswith(".bin")


def fill_last_batch(items: Sequence[T], batch_size: int) -> tuple[list[T], int]:
    """Repeat the last item until the items fill whole batches.

    Models with static shapes take only whole batches, and the documentation of Ascend's tools does not say how the
    tools treat a smaller batch. The caller drops the results of the added items.

    Returns:
        The items including the added ones, and the number of added items.
    """
    added = -len(items) % batch_size
    return [*items, *list(items[-1:]) * added], added
