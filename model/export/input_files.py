"""Write sequences as raw input files of one fixed length for a deployed model, with a list and a manifest of the files.

CASIA-B-bin/0000.bin   little-endian float32 [frame_num, 64, 44], pixel / 255
CASIA-B-bin.info       one line `index path 64 64` per file, read by Ascend's benchmark tool
CASIA-B-bin.json       the manifest: labels and checksum of each file; results get their labels only from the manifest
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.common.files import atomic_folder
from model.common.geometry import FLOAT32, FRAME_HEIGHT, FRAME_WIDTH, LABELS
from model.common.json_files import write_json
from model.common.lock import locked
from model.common.messages import progress_bar
from model.common.prefetch import prefetch
from model.data.index import SequenceIndex
from model.export.manifest import FORMAT, Manifest, digest_of, manifest_path, write_info

FRAME_NUM = 100
PADDINGS = ("repeat", "zero")
TRUNCATIONS = ("first", "even")
WRITER_THREADS = 4
MAX_PENDING = 64  # largest number of sequences that are in memory at a time


@dataclass(frozen=True)
class FixedLength:
    """The number of frames of every input file, and how a sequence gets this number of frames (see `fixed_length`)."""

    frame_num: int = FRAME_NUM
    padding: str = "repeat"
    truncate: str = "first"


def fixed_length(
    sequence: np.ndarray, frame_num: int = FRAME_NUM, padding: str = "repeat", truncate: str = "first"
) -> np.ndarray:
    """Truncate or pad a sequence to `frame_num` frames: uint8 [f, h, w] -> uint8 [frame_num, h, w].

    Args:
        padding: `repeat` repeats the sequence from its start. The embedding stays the same, because set pooling takes
            the maximum over the frames. `zero` puts black frames in front, as in the evaluation of the published om.
            The embedding changes: all features of a black frame are 0, so negative maxima become 0.
        truncate: `first` keeps the first frames, as in the published evaluation. `even` keeps evenly spaced frames.
    """
    if padding not in PADDINGS or truncate not in TRUNCATIONS:
        raise ValueError(
            f"expected a padding in {PADDINGS} and a truncation in {TRUNCATIONS}, found {padding!r} and {truncate!r}"
        )
    frames = len(sequence)
    if frames < 1:
        raise ValueError("a sequence without frames cannot be padded")
    if frames >= frame_num:
        middles = (2 * np.arange(frame_num) + 1) * frames // (2 * frame_num)
        return sequence[middles if truncate == "even" else slice(frame_num)]
    if padding == "repeat":
        return sequence[np.arange(frame_num) % frames]
    missing = np.zeros((frame_num - frames, *sequence.shape[1:]), sequence.dtype)
    return np.concatenate([missing, sequence])


def write_input_files(
    store,
    positions: Sequence[int] | np.ndarray | None,
    folder: Path | str,
    info_path: Path | str,
    length: FixedLength,
    *,
    dataset: str = "",
    partition: dict[str, Any] | None = None,
    quiet: bool = False,
) -> Manifest:
    """Write sequences of `store` as input files, with a list and a manifest of the files.

    An existing `folder` of input files is replaced as a whole. Its list and manifest are deleted before the
    replacement, and new ones are written after it. So a list or manifest never describes the files of a different run.

    Args:
        store: has `.index` (SequenceIndex) and `.sequence(position)` -> uint8 [f, 64, 44].
        positions: positions in the index, a boolean mask of the index, or None for all sequences.
        dataset, partition: are copied to the manifest.

    Raises:
        UserError: no sequence is selected, a sequence has no frames, the disk has too little free space, `folder`
            holds files of another kind, or another job is writing to `folder`.
    """
    folder, info_path = Path(folder), Path(info_path)
    everything = np.arange(len(store.index))
    positions = everything if positions is None else everything[positions]
    index = store.index.take(positions)
    if not len(index):
        raise UserError(f"{folder}: there is no sequence to write; check --dataset and --partition")
    if not index.frames.all():
        empty = index.name(int(index.frames.argmin()))
        raise UserError(f"{empty}: has no frames, so it cannot be written as an input file; remove the sequence")
    check_replaceable(folder, ".bin")
    _check_space(folder, len(index) * length.frame_num * FRAME_HEIGHT * FRAME_WIDTH * FLOAT32.itemsize)
    # The order of the keys is part of the format.
    shape = [length.frame_num, FRAME_HEIGHT, FRAME_WIDTH]
    settings = {"format": FORMAT, "dataset": dataset, "partition": partition, **asdict(length), "dtype": FLOAT32.str}
    settings.update(scale="pixel / 255", shape=shape, count=len(index))
    entries = _entries(index, length.frame_num)
    targets = (manifest_path(folder), info_path)
    with locked(folder.with_name(f".{folder.name}.lock"), folder):
        with atomic_folder(folder) as part:
            files = [part / entry["file"] for entry in entries]
            digests = _write_all(store, positions, files, length, quiet)
            entries = [{**entry, "digest": digest} for entry, digest in zip(entries, digests, strict=True)]
            for target in targets:
                target.unlink(missing_ok=True)
        write_json(targets[0], {**settings, "entries": entries}, sealed=True)
        write_info(info_path, [folder / entry["file"] for entry in entries])
    return Manifest(targets[0], tuple(shape), entries, settings)


def check_replaceable(folder: Path, *suffixes: str) -> None:
    """Raise UserError if `folder` is a file, or holds anything other than files with one of `suffixes`."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: cannot be written as a folder, because it is a file; give another path")
    with os.scandir(folder) as entries:
        foreign = next((e.name for e in entries if not (e.is_file() and e.name.endswith(suffixes))), None)
    if foreign is not None:
        raise UserError(
            f"{folder}: cannot be replaced as a whole, because it also holds {foreign}; give another folder, or move "
            f"{foreign}"
        )


def _entries(index: SequenceIndex, frame_num: int) -> list[dict[str, Any]]:
    digits = max(4, len(str(len(index) - 1)))
    entries = []
    for i, frames in enumerate(index.frames.tolist()):
        used = min(frames, frame_num)
        labels = {column: str(getattr(index, column)[i]) for column in LABELS}
        numbers = {"frames": frames, "frames_used": used, "frames_padded": frame_num - used}
        entries.append({"index": i, "file": f"{i:0{digits}d}.bin", **labels, **numbers})
    return entries


def _write_all(store, positions: np.ndarray, files: list[Path], length: FixedLength, quiet: bool) -> list[str]:
    """Write one file per position and return the checksums of the files."""

    def write(item: tuple[Path, np.ndarray]) -> str:
        file, sequence = item
        values = np.divide(fixed_length(sequence, **asdict(length)), np.float32(255), dtype=FLOAT32)
        file.write_bytes(values)
        return digest_of(values)

    # The generator runs in this thread, because reading from a store is not always thread-safe.
    items = ((file, store.sequence(int(position))) for file, position in zip(files, positions, strict=True))
    digests = []
    with progress_bar(total=len(files), unit="files", what="writing", quiet=quiet) as bar:
        for digest in prefetch(write, items, WRITER_THREADS, MAX_PENDING):
            digests.append(digest)
            bar.update()
    return digests


def _check_space(folder: Path, needed: int) -> None:
    existing = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(
            f"{folder}: the input files need {needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are free on the disk; "
            "delete other files (existing input files are deleted only after the new ones are complete), or give a "
            "folder on another disk"
        )
