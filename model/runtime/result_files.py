"""Read the result files of a runtime, which contain the embedding of one sequence each.

The names and formats are the same as in Ascend's `benchmark.x86_64` and `ais_bench`. ais_bench writes .bin, .npy or
.txt files. By default, the name of its output folder is the time. With several devices, the output folder has one
subfolder per device.
"""

import io
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.common.errors import UserError, os_errors_as
from model.common.geometry import FLOAT32
from model.common.messages import progress_bar
from model.data.index import SequenceIndex
from model.export.manifest import FILLER_PREFIX, Manifest, digest_of
from model.runtime.result_record import read_record

logger = logging.getLogger(__name__)

TOOLS = {"_1": "benchmark, which numbers outputs from 1", "_0": "ais_bench, which numbers outputs from 0"}
OUR_SUFFIX = "_1"
_TIME_STAMP = re.compile(r"\d{4}(_\d\d){2}-\d\d(_\d\d){2}")  # name of the output folder of ais_bench
_DEVICE = re.compile(r"device\d+(_\d+)?")  # name of the subfolder of one device
_PERFORMANCE = ("perf_vision_", "PureInfer_")  # text files of benchmark that are not results


def read_results(
    result_folder: Path, manifest: Manifest, embedding_shape: tuple[int, ...], quiet: bool = True
) -> tuple[np.ndarray, SequenceIndex]:
    """Read the embeddings of all sequences of a manifest.

    The name of every file must be `<stem>_1.bin`, or the name of every file must be `<stem>_0.bin`. If there are no
    .bin files, .npy or .txt files are read. Files with the filler prefix and files with other suffixes are ignored. If
    the folder contains no results, the newest output folder of ais_bench in the folder is used.

    Returns:
        Float array [N, *embedding_shape] in the order of the manifest, and the labels of the sequences.

    Raises:
        UserError: with the names of the first files, if results are missing, unexpected, of the wrong size, different
            from the result record, not finite, or equal although their input files differ.
    """
    stems = [Path(entry["file"]).stem for entry in manifest.entries]
    folder, present = _present(result_folder)
    kind = next((Path(name).suffix for name in present), ".bin")
    suffix = f"{_suffix_of(folder, present, set(stems))}{kind}"
    names = [f"{stem}{suffix}" for stem in stems]
    _require_none(folder, [name for name in names if name not in present],
                  f"of {len(names)} results are missing; run the deployed model again")  # fmt: skip
    _require_none(folder, sorted(present.keys() - set(names)), f"belong to no sequence of {manifest.path}; empty the "
                  "folder and run the deployed model again")  # fmt: skip
    values = int(np.prod(embedding_shape))
    if kind == ".bin":
        _check_sizes(folder, {name: path.stat().st_size for name, path in present.items()}, values)
    embeddings, digests = np.empty((len(stems), values), FLOAT32), {}
    bar = progress_bar(names, unit="results", what="reading", quiet=quiet)
    for row, stem, name in zip(embeddings, stems, bar, strict=True):
        content = _READERS[kind](present[name])
        _check_sizes(folder, {name: len(content)}, values)  # the file may have changed since the first check
        row[:] = np.frombuffer(content, FLOAT32)
        digests[stem] = digest_of(content)
    _check_origin(folder, manifest, digests, suffix)
    not_finite = np.flatnonzero(~np.isfinite(embeddings).all(1))
    _require_none(folder, [names[i] for i in not_finite],
                  "contain values that are not finite; convert the model with a higher precision")  # fmt: skip
    return embeddings.reshape(-1, *embedding_shape).astype(np.float32, copy=False), manifest.labels


def _values_of_npy(path: Path) -> bytes:
    """Return the values of an .npy file as the bytes of a .bin file."""
    try:
        array = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: not a valid .npy file ({error}); run the deployed model again") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UserError(f"{path}: does not contain an array of numbers; run the deployed model again")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _values_of_text(path: Path) -> bytes:
    """Return the values of a text file as the bytes of a .bin file. The text contains six decimals per value."""
    try:
        return np.array(path.read_bytes().split()).astype(FLOAT32).tobytes()
    except ValueError as error:
        raise UserError(f"{path}: does not only contain numbers ({error}); run the deployed model again") from error


_READERS: dict[str, Callable[[Path], bytes]] = {
    ".bin": Path.read_bytes,
    ".npy": _values_of_npy,
    ".txt": _values_of_text,
}


def _check_origin(folder: Path, manifest: Manifest, digests: dict[str, str], suffix: str) -> None:
    """Check that each result was computed from the input file of the same stem.

    Args:
        digests: digest of each result, by the stem of the input file.
        suffix: end of the names of the result files, such as _1.bin.
    """
    record = read_record(folder)
    if record is None:
        logger.warning("%s has no result record, because the tool was run manually: results are assigned to sequences "
                       "by file name only", folder)  # fmt: skip
        _check_bins(manifest)
    else:
        other = [f"{stem}{suffix}" for stem in digests if record["bins"].get(stem) != manifest.digests[stem]]
        belong = f"belong to input files other than the files of {manifest.path}; run the deployed model again"
        _require_none(folder, other, belong)
        changed = [f"{stem}{suffix}" for stem in digests if record["results"].get(stem) != digests[stem]]
        _require_none(folder, changed, "were changed after the model wrote them; run the deployed model again")
    first: dict[str, str] = {}
    for stem, digest in digests.items():
        same = first.setdefault(digest, stem)
        if manifest.digests[same] != manifest.digests[stem]:
            raise UserError(
                f"{folder}: {same}{suffix} and {stem}{suffix} are equal, but their input files differ: one result is a "
                "copy of the other result, or the model gives all sequences the same embedding; run the deployed model "
                "again"
            )


def _check_bins(manifest: Manifest) -> None:
    """Raise UserError if an input file that still exists differs from the manifest."""
    folder = manifest.path.with_suffix("")
    for entry in manifest.entries:
        bin_file = folder / entry["file"]
        if bin_file.is_file() and digest_of(bin_file.read_bytes()) != entry["digest"]:
            raise UserError(
                f"{bin_file}: was changed, because it does not match {manifest.path}; create the input files again, "
                "and run the deployed model again"
            )


def _present(folder: Path) -> tuple[Path, dict[str, Path]]:
    """Return the folder that contains the results, and the path of each result by name."""
    with os_errors_as(f"{folder}: no result folder", "run the deployed model first"):
        stamped = sorted(path for path in folder.iterdir() if _TIME_STAMP.fullmatch(path.name) and path.is_dir())
        for place in (folder, *reversed(stamped)):
            present = _results_in(place)
            if present:
                if place != folder:
                    logger.info("using the results in %s, the newest output folder of ais_bench in %s", place, folder)
                return place, present
    return folder, {}


def _results_in(folder: Path) -> dict[str, Path]:
    """Return the .bin files of a folder, or if there are none, its .npy files, or its .txt files.

    If the folder contains no such files, the files in its subfolders of single devices are returned.
    """
    with os.scandir(folder) as entries:
        paths = sorted(Path(entry.path) for entry in entries)
    paths_of_results = [path for path in paths if not path.name.startswith((FILLER_PREFIX, *_PERFORMANCE))]
    for kind in _READERS:
        present = {path.name: path for path in paths_of_results if path.suffix == kind}
        if present:
            return present
    devices = [_results_in(path) for path in paths if _DEVICE.fullmatch(path.name) and path.is_dir()]
    return {name: path for results in reversed(devices) for name, path in results.items()}


def _suffix_of(folder: Path, present: dict[str, Path], stems: set[str]) -> str:
    suffixes = {name[-6:-4] for name in present if name[-6:-4] in TOOLS and name[:-6] in stems}
    if len(suffixes) == 2:
        raise UserError(
            f"{folder}: contains results of two tools, whose names end in _0 and in _1; empty the folder and run the "
            "deployed model again"
        )
    if not suffixes:
        tools = " or ".join(f"<stem>{suffix}.bin ({tool})" for suffix, tool in TOOLS.items())
        raise UserError(
            f"{folder}: contains no results of the {len(stems)} sequences, expected {tools}; run the deployed model"
        )
    return suffixes.pop()


def _check_sizes(folder: Path, present: dict[str, int], values: int) -> None:
    expected = values * FLOAT32.itemsize
    wrong = sorted(name for name, size in present.items() if size != expected)
    if wrong:
        size = present[wrong[0]]
        hint = "convert the model with float32 output" if size * 2 == expected else "run the deployed model again"
        _require_none(folder, wrong, f"have the wrong size: {size} bytes, expected {expected} bytes; {hint}")


def _require_none(folder: Path, names: list[str], problem: str) -> None:
    """Raise UserError with the number of files, their first names and `problem`, if `names` is not empty."""
    if names:
        more = ", …" if len(names) > 3 else ""
        raise UserError(f"{folder}: {len(names)} files ({', '.join(names[:3])}{more}) {problem}")
