"""The list of bins that a runtime is about to read: is everything there, and of the right size?"""

from __future__ import annotations

from pathlib import Path

from model.data.silhouette import HEIGHT, WIDTH
from model.errors import UserError
from model.export.bins import DTYPE
from model.export.manifest import FILLER_PREFIX, InfoEntry, read_info


def check_bins(info_path: Path, shape: tuple[int, ...] | None) -> list[InfoEntry]:
    """The list with paths that exist: as written, or from the list's folder when the first is only there.

    shape: [s, h, w] of one sequence in the model; None where nobody can ask it (a closed om): then every bin
    must be as large as the first. Raises UserError naming the bin that is missing or of another size, or two
    whose results would have the same name. Fillers of a list that somebody filled are left out.
    """
    entries = [entry for entry in read_info(info_path) if not entry.path.name.startswith(FILLER_PREFIX)]
    if not entries:
        raise UserError(f"{info_path}: nothing but fillers in it; make it anew with --pre_process")
    if not entries[0].path.exists() and (info_path.parent / entries[0].path).exists():
        entries = [entry._replace(path=info_path.parent / entry.path) for entry in entries]
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
