"""Check the list of input files before a runtime reads them."""

import os
from collections.abc import Mapping
from pathlib import Path

from model.common.errors import UserError, os_errors_as
from model.common.files import is_file
from model.common.geometry import FLOAT32, FRAME_HEIGHT, FRAME_WIDTH
from model.export.manifest import FILLER_PREFIX, digest_of, read_info, read_manifest


def check_bins(info_path: Path, shape: tuple[int, ...] | None) -> list[Path]:
    """Check that the input files of an `.info` list exist and have the right size, and return their paths.

    Relative paths are resolved against the working directory. If the first file exists only in the folder of the list,
    all paths are resolved against that folder. Fillers, which only complete the last batch, are omitted.

    Args:
        shape: shape [s, h, w] of one sequence in the model's input. With None, all input files must have the size of
            the first file. This is used for om files, whose shape cannot be read.

    Raises:
        UserError: if a file is missing, has a different size or is outside the folder of the list, or if two results
            would have the same name.
    """
    files = [file for file in read_info(info_path) if not file.name.startswith(FILLER_PREFIX)]
    if not files:
        raise UserError(f"{info_path}: contains only fillers; create the list again with test.py --pre_process")
    if not is_file(files[0]) and is_file(info_path.parent / files[0]):
        files = [info_path.parent / file for file in files]
    _check_names(info_path, files)
    height, width = shape[1:] if shape else (FRAME_HEIGHT, FRAME_WIDTH)
    frame_bytes = height * width * FLOAT32.itemsize
    expected, reference = (shape[0] * frame_bytes, "the model") if shape else (None, str(files[0]))
    for file in files:
        with os_errors_as(f"{file}: listed in {info_path} but missing", "create the input files again"):
            size = file.stat().st_size
        is_whole = size > 0 and size % frame_bytes == 0
        frames = f"{size // frame_bytes} frames" if is_whole else "not a whole number of frames"
        if expected is None and not is_whole:
            problem = f"{size} bytes ({frames}), but a frame has {frame_bytes} bytes"
            raise UserError(f"{file}: {problem}; create the input files again")
        expected = expected or size
        if size != expected:
            raise UserError(
                f"{file}: {size} bytes ({frames}), but {reference} has {expected} bytes ({expected // frame_bytes} "
                "frames); use the same number of frames for the input files and the model"
            )
    return files


def known_digests(info_path: Path) -> dict[str, str]:
    """Return the digests of the input files by stem, from the manifest of a list. Empty if there is no manifest."""
    manifest = info_path.with_suffix(".json")
    return read_manifest(manifest).digests if info_path.suffix == ".info" and manifest.is_file() else {}


def check_digest(path: Path, content: bytes | memoryview, known: Mapping[str, str]) -> str:
    """Return the digest of an input file. Raises UserError if the manifest has a different digest for this file."""
    digest = digest_of(content)
    if known.get(path.stem, digest) != digest:
        raise UserError(f"{path}: was changed, because it does not match its manifest; create the input files again")
    return digest


def _check_names(info_path: Path, files: list[Path]) -> None:
    """Raise UserError if two files have the same stem, or if a file is outside the folder of the list.

    The second check protects other files of the machine: a list from an unknown source could name any file.
    """
    folder = Path(os.path.normpath(info_path.absolute().parent))
    stems: dict[str, Path] = {}
    for file in files:
        if folder not in Path(os.path.normpath(file.absolute())).parents:
            outside = f"{file} is outside the folder of the list"
            raise UserError(f"{info_path}: {outside}; create the list and its input files again in one folder")
        if stems.setdefault(file.stem, file) is not file:
            same = f"{stems[file.stem]} and {file} would have the same result file"
            raise UserError(f"{info_path}: {same}; create the list and its input files again")
