"""Sequences as raw files of one fixed size, for the deployed model: bins, their list, their manifest.

CASIA-B-bin/0000.bin   little-endian float32 [frame_num, 64, 44], pixel / 255
CASIA-B-bin.info       `index path 64 64` a line, what the benchmark tool reads
CASIA-B-bin.json       the manifest: whose sequence each file holds. Only this pairs results with people
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from model.common.errors import UserError
from model.common.files import whole_folder, write_json
from model.common.lock import locked
from model.common.messages import progress_bar
from model.data.index import SequenceIndex
from model.data.raw.silhouette import HEIGHT, WIDTH
from model.export.manifest import FORMAT, LABELS, Manifest, digest_of, manifest_path, write_info

FRAME_NUM = 100
PADDINGS = ("repeat", "zero")
TRUNCATIONS = ("first", "even")
DTYPE = np.dtype("<f4")
_CHUNK = 64  # sequences in flight


def fixed_length(
    sequence: np.ndarray, frame_num: int = FRAME_NUM, padding: str = "repeat", truncate: str = "first"
) -> np.ndarray:
    """A sequence cut or padded to `frame_num` frames. uint8 [f, h, w] -> uint8 [frame_num, h, w].

    padding `repeat` goes through the sequence again and again, which the set maximum makes exact; `zero`
    puts black frames in front, as the published om was evaluated, and is not exact (LeakyReLU leaves
    negative features, which a black frame clips at zero).
    truncate `first` keeps the first frames, as published; `even` keeps frames spread over the whole walk.
    """
    if padding not in PADDINGS or truncate not in TRUNCATIONS:
        raise ValueError(f"padding {padding!r} and truncate {truncate!r} must be of {PADDINGS} and {TRUNCATIONS}")
    frames = len(sequence)
    if frames < 1:
        raise ValueError("a sequence without a frame has no fixed length")
    if frames >= frame_num:
        middles = (2 * np.arange(frame_num) + 1) * frames // (2 * frame_num)
        return sequence[middles if truncate == "even" else slice(frame_num)]
    if padding == "repeat":
        return sequence[np.arange(frame_num) % frames]
    missing = np.zeros((frame_num - frames, *sequence.shape[1:]), sequence.dtype)
    return np.concatenate([missing, sequence])


def write_bins(
    store,
    positions: Sequence[int] | np.ndarray | None,
    folder: Path | str,
    info_path: Path | str,
    *,
    frame_num: int = FRAME_NUM,
    padding: str = "repeat",
    truncate: str = "first",
    dataset: str = "",
    partition: dict[str, Any] | None = None,
    threads: int = 4,
    quiet: bool = False,
) -> Manifest:
    """Write the sequences at `positions` (integers, a mask, None: all) as bins, with their list and manifest.

    store: has `.index` (SequenceIndex) and `.sequence(position)` -> uint8 [f, 64, 44].
    partition: recorded in the manifest as it is. An older `folder` of bins is replaced as a whole; list and
    manifest vanish before that and come back after it, so that they never describe other bins.
    Raises UserError when there is nothing to write, the disk is too small, `folder` holds other things, or another
    job writes there.
    """
    folder, info_path = Path(folder), Path(info_path)
    positions = _numbers(positions, len(store.index))
    index = store.index.take(positions)
    if not len(index):
        raise UserError(f"{folder}: no sequence to write, the partition leaves none of the data")
    if not index.frames.all():
        raise UserError(f"{index.name(int(index.frames.argmin()))}: no frame, so no bin can be made of it")
    check_replaceable(folder, ".bin")
    _check_space(folder, len(index) * frame_num * HEIGHT * WIDTH * DTYPE.itemsize)
    settings = {
        "format": FORMAT,
        "dataset": dataset,
        "partition": partition,
        "frame_num": frame_num,
        "padding": padding,
        "truncate": truncate,
        "dtype": DTYPE.str,
        "scale": "pixel / 255",
        "shape": [frame_num, HEIGHT, WIDTH],
        "count": len(index),
    }
    entries = _entries(index, frame_num)
    targets = (manifest_path(folder), info_path)
    with locked(folder.with_name(f".{folder.name}.lock"), folder):
        with whole_folder(folder) as part:
            files = [part / entry["file"] for entry in entries]
            digests = _write_all(store, positions, files, (frame_num, padding, truncate), threads, quiet)
            entries = [{**entry, "digest": digest} for entry, digest in zip(entries, digests, strict=True)]
            for target in targets:
                target.unlink(missing_ok=True)
        write_json(targets[0], {**settings, "entries": entries}, sealed=True)
        write_info(info_path, [folder / entry["file"] for entry in entries])
    return Manifest(targets[0], tuple(settings["shape"]), entries, settings)


def check_replaceable(folder: Path, *suffixes: str) -> None:
    """UserError unless `folder` is absent or holds files of these suffixes only: the rest is not ours."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file where a folder is to be written; give another path")
    with os.scandir(folder) as entries:
        foreign = next((e.name for e in entries if not (e.is_file() and e.name.endswith(suffixes))), None)
    if foreign is not None:
        raise UserError(f"{folder}: would be replaced as a whole but also holds {foreign}; give another folder")


def _numbers(positions: Sequence[int] | np.ndarray | None, count: int) -> np.ndarray:
    everything = np.arange(count)
    if positions is None:
        return everything
    positions = np.asarray(positions)
    return everything[positions if positions.dtype == bool else positions.astype(np.int64)]


def _entries(index: SequenceIndex, frame_num: int) -> list[dict[str, Any]]:
    digits = max(4, len(str(len(index) - 1)))
    entries = []
    for i, frames in enumerate(index.frames.tolist()):
        used = min(frames, frame_num)
        labels = {column: str(getattr(index, column)[i]) for column in LABELS}
        numbers = {"frames": frames, "frames_used": used, "frames_padded": frame_num - used}
        entries.append({"index": i, "file": f"{i:0{digits}d}.bin", **labels, **numbers})
    return entries


def _write_all(
    store,
    positions: np.ndarray,
    files: list[Path],
    length: tuple[int, str, str],
    threads: int,
    quiet: bool,
) -> list[str]:
    """Returns the digest of each."""

    def write(file: Path, sequence: np.ndarray) -> str:
        values = np.divide(fixed_length(sequence, *length), np.float32(255), dtype=DTYPE)
        file.write_bytes(values)
        return digest_of(values)

    digests = []
    bar = progress_bar(total=len(files), unit="bins", what="writing", quiet=quiet)
    with bar, ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            # Read here: a store need not be safe to read from several threads.
            sequences = [store.sequence(int(position)) for position in positions[chunk]]
            for digest in pool.map(write, files[chunk], sequences):
                digests.append(digest)
                bar.update()
    return digests


def _check_space(folder: Path, needed: int) -> None:
    existing = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(
            f"{folder}: the bins need {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free on that disk; "
            "free some (older bins go only after the new ones are complete) or give another folder"
        )
