"""Check the list of input files before a runtime reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from model.common.errors import UserError
from model.common.files import is_file
from model.common.geometry import FLOAT32, FRAME_HEIGHT, FRAME_WIDTH
from model.export.manifest import FILLER_PREFIX, InfoEntry, digest_of, read_info, read_manifest


def check_bins(info_path: Path, shape: tuple[int, ...] | None) -> list[InfoEntry]:
    """Read an `.info` list and check that its input files exist and have the right size.

    Paths are resolved against the working directory, or against the folder of the list if the first file exists
    only there. Fillers of an already filled list are omitted.

    Args:
        shape: [s, h, w] of one sequence as the model takes it. With None (an om file, whose shape cannot be
            read), all input files must have the size of the first one.

    Raises:
        UserError: if a file is missing, has another size or is outside the folder of the list, or if two
            results would have the same name.
    """
    entries = [entry for entry in read_info(info_path) if not entry.path.name.startswith(FILLER_PREFIX)]
    if not entries:
        raise UserError(f"{info_path}: contains only fillers; create it again with --pre_process")
    if not is_file(entries[0].path) and is_file(info_path.parent / entries[0].path):
        entries = [entry._replace(path=info_path.parent / entry.path) for entry in entries]
    _check_folder(info_path, entries)
    _check_names(info_path, entries)
    frame_bytes = (shape[1] * shape[2] if shape else FRAME_HEIGHT * FRAME_WIDTH) * FLOAT32.itemsize
    expected, reference = (shape[0] * frame_bytes, "the model") if shape else (None, str(entries[0].path))
    for entry in entries:
        try:
            size = entry.path.stat().st_size
        except OSError as error:
            raise UserError(
                f"{entry.path}: listed in {info_path} but missing ({error.strerror}); create the input files again"
            ) from error
        if expected is None and size and size % frame_bytes == 0:
            expected = size
        if size != expected:
            raise UserError(_wrong_size(entry.path, size, expected, frame_bytes, reference))
    return entries


def known_digests(info_path: Path) -> dict[str, str]:
    """Return the digests of the input files by stem from the manifest of a list, empty without a manifest."""
    manifest = info_path.with_suffix(".json")
    return read_manifest(manifest).digests if info_path.suffix == ".info" and manifest.is_file() else {}


def check_digest(path: Path, content: bytes | memoryview, known: Mapping[str, str]) -> str:
    """Return the digest of an input file. Raises UserError if the manifest contains another one."""
    digest = digest_of(content)
    if known.get(path.stem, digest) != digest:
        raise UserError(f"{path}: does not match its manifest, so it was changed; create the input files again")
    return digest


def _check_folder(info_path: Path, entries: list[InfoEntry]) -> None:
    """Require input files inside the folder of the list: a list from elsewhere could name any file."""
    folder = Path(os.path.normpath(info_path.absolute().parent))
    for entry in entries:
        if folder not in Path(os.path.normpath(entry.path.absolute())).parents:
            raise UserError(
                f"{info_path}: {entry.path} is outside the folder of the list; create the input files again there"
            )


def _check_names(info_path: Path, entries: list[InfoEntry]) -> None:
    stems: dict[str, Path] = {}
    for entry in entries:
        if entry.path.stem in stems:
            raise UserError(f"{info_path}: {stems[entry.path.stem]} and {entry.path} would have the same result file")
        stems[entry.path.stem] = entry.path


def _wrong_size(path: Path, size: int, expected: int | None, frame_bytes: int, reference: str) -> str:
    complete = size and size % frame_bytes == 0
    frames = f"{size // frame_bytes} frames" if complete else "not a whole number of frames"
    if expected is None:
        return f"{path}: {size} bytes ({frames}), but a frame has {frame_bytes} bytes; create the input files again"
    return (
        f"{path}: {size} bytes ({frames}), but {reference} has {expected} ({expected // frame_bytes} frames); "
        "use the same number of frames for the input files and the model"
    )
