"""Read the result files of a runtime, one per sequence.

Names and formats are those of Ascend's `benchmark.x86_64` and `ais_bench`. ais_bench writes .bin, .npy or .txt files,
by default to a folder with the time as its name, and with several devices to one subfolder per device.
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

TOOLS = {"_1": "benchmark, which numbers outputs from 1", "_0": "ais_bench, which numbers them from 0"}
OUR_SUFFIX = "_1"
_TIME_STAMP = re.compile(r"\d{4}(_\d\d){2}-\d\d(_\d\d){2}")  # name of the output folder of ais_bench
_DEVICE = re.compile(r"device\d+(_\d+)?")  # its subfolder of one of several devices
_PERFORMANCE = ("perf_vision_", "PureInfer_")  # text files of benchmark that are not results


def read_results(
    result_folder: Path, manifest: Manifest, embedding_shape: tuple[int, ...], quiet: bool = True
) -> tuple[np.ndarray, SequenceIndex]:
    """Read the embeddings of all sequences of a manifest.

    All files must be named `<stem>_1.bin` or all `<stem>_0.bin`; .npy or .txt files are read if there are no .bin
    files. Files with the filler prefix and files with other suffixes are ignored. If the folder contains no results,
    the newest output folder of ais_bench in it is used.

    Returns:
        Float array [N, *embedding_shape] in the order of the manifest, and the labels.

    Raises:
        UserError: with the names of the first files, if results are missing, unexpected, of the wrong size,
            different from the result record, equal for different input files, or not finite.
    """
    stems = [Path(entry["file"]).stem for entry in manifest.entries]
    folder, present = _present(result_folder)
    kind = next((Path(name).suffix for name in present), ".bin")
    suffix = f"{_suffix_of(folder, present, set(stems))}{kind}"
    names = [f"{stem}{suffix}" for stem in stems]
    _require_none(folder, [name for name in names if name not in present],
                  f"of {len(names)} results are missing; run the model again")  # fmt: skip
    _require_none(folder, sorted(present.keys() - set(names)),
                  f"are not part of {manifest.path}; empty the folder and run again")  # fmt: skip
    values = int(np.prod(embedding_shape))
    if kind == ".bin":
        _check_sizes(folder, {name: path.stat().st_size for name, path in present.items()}, values)
    embeddings, digests = np.empty((len(stems), values), FLOAT32), {}
    bar = progress_bar(names, unit="results", what="reading", quiet=quiet)
    for row, stem, name in zip(embeddings, stems, bar, strict=True):
        content = _READERS[kind](present[name])
        _check_sizes(folder, {name: len(content)}, values)  # it may have changed since the scan
        row[:] = np.frombuffer(content, FLOAT32)
        digests[stem] = digest_of(content)
    _check_origin(folder, manifest, digests, suffix)
    not_finite = np.flatnonzero(~np.isfinite(embeddings).all(1))
    _require_none(folder, [names[i] for i in not_finite],
                  "contain values that are not finite; convert with a higher precision")  # fmt: skip
    return embeddings.reshape(-1, *embedding_shape).astype(np.float32, copy=False), manifest.labels


def _values_of_npy(path: Path) -> bytes:
    """Return the values of an .npy file as the bytes of a .bin file."""
    try:
        array = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: is not an .npy file ({error}); run the deployed model again") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UserError(f"{path}: does not contain an array of numbers; run the deployed model again")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _values_of_text(path: Path) -> bytes:
    """Return the values of a text file, which have six decimals, as the bytes of a .bin file."""
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
    """Check that each result belongs to the input file of the same stem. `digests` are those of the results."""
    record = read_record(folder)
    if record is None:
        logger.warning("%s has no result record (the tool was run manually): results are assigned to sequences by file "
                       "name only", folder)  # fmt: skip
        _check_bins(manifest)
    else:
        other = [f"{stem}{suffix}" for stem in digests if record["bins"].get(stem) != manifest.digests[stem]]
        belong = f"belong to different input files than those of {manifest.path}; run the model again"
        _require_none(folder, other, belong)
        changed = [f"{stem}{suffix}" for stem in digests if record["results"].get(stem) != digests[stem]]
        _require_none(folder, changed, "differ from what the model wrote; run it again")
    first: dict[str, str] = {}
    for stem, digest in digests.items():
        same = first.setdefault(digest, stem)
        if manifest.digests[same] != manifest.digests[stem]:
            raise UserError(
                f"{folder}: {same}{suffix} and {stem}{suffix} are equal, but their input files are not: one "
                "is a copy of the other, or the model has collapsed; run it again"
            )


def _check_bins(manifest: Manifest) -> None:
    """Check the digests of the input files that still exist."""
    folder = manifest.path.with_suffix("")
    for entry in manifest.entries:
        bin_file = folder / entry["file"]
        if bin_file.is_file() and digest_of(bin_file.read_bytes()) != entry["digest"]:
            raise UserError(
                f"{bin_file}: does not match {manifest.path}, so it was changed; create the input files and run the "
                "model again"
            )


def _present(folder: Path) -> tuple[Path, dict[str, Path]]:
    """Return the folder that contains the results, and the path of each result by name."""
    with os_errors_as(f"{folder}: no result folder", "run the deployed model first"):
        stamped = sorted(path for path in folder.iterdir() if _TIME_STAMP.fullmatch(path.name) and path.is_dir())
        for place in (folder, *reversed(stamped)):
            present = _results_in(place)
            if present:
                if place != folder:
                    logger.info("results in %s, the newest output folder of ais_bench in %s", place, folder)
                return place, present
    return folder, {}


def _results_in(folder: Path) -> dict[str, Path]:
    """Return the .bin files of a folder, or its .npy or .txt files, or those in its subfolders of several devices."""
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
        raise UserError(f"{folder}: results of two tools, with names in _0 and in _1; empty the folder and run again")
    if not suffixes:
        tools = " or ".join(f"<stem>{suffix}.bin ({tool})" for suffix, tool in TOOLS.items())
        raise UserError(f"{folder}: no results of the {len(stems)} sequences, expected {tools}; run the deployed model")
    return suffixes.pop()


def _check_sizes(folder: Path, present: dict[str, int], values: int) -> None:
    expected = values * FLOAT32.itemsize
    wrong = sorted(name for name, size in present.items() if size != expected)
    if wrong:
        size = present[wrong[0]]
        hint = "convert with float32 output" if size * 2 == expected else "run the deployed model again"
        _require_none(folder, wrong, f"have the wrong size, {size} bytes instead of {expected}; {hint}")


def _require_none(folder: Path, names: list[str], problem: str) -> None:
    """Raise UserError with `problem` if there are such files."""
    if names:
        more = ", …" if len(names) > 3 else ""
        raise UserError(f"{folder}: {len(names)} files ({', '.join(names[:3])}{more}) {problem}")
