"""The list of bins that a runtime is about to read: is everything there, and of the right size?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from model.common.errors import UserError
from model.common.files import is_file
from model.data.raw.silhouette import HEIGHT, WIDTH
from model.export.input_files import DTYPE
from model.export.manifest import FILLER_PREFIX, InfoEntry, digest_of, read_info, read_manifest


def check_bins(info_path: Path, shape: tuple[int, ...] | None) -> list[InfoEntry]:
    """The list with paths that exist: as written, or from the list's folder when the first is only there.

    shape: [s, h, w] of one sequence in the model; None where nobody can ask it (a closed om): then every bin
    must be as large as the first. Raises UserError naming the bin that is missing, of another size or outside the
    folder of the list, or two whose results would have the same name. Fillers of a list that somebody filled are left
    out.
    """
    entries = [entry for entry in read_info(info_path) if not entry.path.name.startswith(FILLER_PREFIX)]
    if not entries:
        raise UserError(f"{info_path}: nothing but fillers in it; make it anew with --pre_process")
    if not is_file(entries[0].path) and is_file(info_path.parent / entries[0].path):
        entries = [entry._replace(path=info_path.parent / entry.path) for entry in entries]
    _check_places(info_path, entries)
    _check_names(info_path, entries)
    frame_bytes = (shape[1] * shape[2] if shape else HEIGHT * WIDTH) * DTYPE.itemsize
    expected, wanted = (shape[0] * frame_bytes, "the model takes") if shape else (None, f"{entries[0].path} has")
    for entry in entries:
        try:
            size = entry.path.stat().st_size
        except OSError as error:
            raise UserError(
                f"{entry.path}: in {info_path} but not there ({error.strerror}); make the bins anew"
            ) from error
        if expected is None and size and size % frame_bytes == 0:
            expected = size
        if size != expected:
            raise UserError(_wrong_size(entry.path, size, expected, frame_bytes, wanted))
    return entries


def known_digests(info_path: Path) -> dict[str, str]:
    """What the manifest beside a list says of its bins, by stem; nothing where there is no manifest."""
    manifest = info_path.with_suffix(".json")
    return read_manifest(manifest).digests if info_path.suffix == ".info" and manifest.is_file() else {}


def check_digest(path: Path, content: bytes | memoryview, known: Mapping[str, str]) -> str:
    """The digest of a bin that was read. Raises UserError when its manifest tells of another."""
    digest = digest_of(content)
    if known.get(path.stem, digest) != digest:
        raise UserError(
            f"{path}: is not the bin that its manifest tells of: exchanged or changed since; make the bins anew"
        )
    return digest


def _check_places(info_path: Path, entries: list[InfoEntry]) -> None:
    """A list from elsewhere could name any file of this machine: bins lie beside or below their list."""
    home = info_path.absolute().parent
    for entry in entries:
        place = Path(os.path.normpath(entry.path.absolute()))
        if Path(os.path.normpath(home)) not in place.parents:
            raise UserError(f"{info_path}: {entry.path} lies outside the folder of the list; make the bins anew there")


def _check_names(info_path: Path, entries: list[InfoEntry]) -> None:
    stems: dict[str, Path] = {}
    for entry in entries:
        if entry.path.stem in stems:
            raise UserError(f"{info_path}: {stems[entry.path.stem]} and {entry.path} would share one result file")
        stems[entry.path.stem] = entry.path


def _wrong_size(path: Path, size: int, expected: int | None, frame_bytes: int, wanted: str) -> str:
    whole = size and size % frame_bytes == 0
    found = f"{size} bytes ({size // frame_bytes} frames)" if whole else f"{size} bytes (no whole number of frames)"
    if expected is None:
        return f"{path}: {found}, a frame has {frame_bytes}; make the bins anew"
    return (
        f"{path}: {found}, {wanted} {expected} ({expected // frame_bytes} frames); "
        "make the bins or export the model with the other's number of frames"
    )
