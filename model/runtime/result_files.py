"""What a runtime leaves behind: one result file a sequence.

Names and formats are those of Ascend's `benchmark.x86_64` and `ais_bench`, which scripts rely on.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from model.common.errors import UserError
from model.common.messages import progress_bar
from model.data.index import SequenceIndex
from model.export.manifest import FILLER_PREFIX, Manifest, digest_of, read_manifest
from model.runtime.result_record import read_record

logger = logging.getLogger(__name__)

DTYPE = np.dtype("<f4")
EMBEDDING_SHAPE = (62, 256)
TOOLS = {"_1": "benchmark, which counts outputs from 1", "_0": "ais_bench, which counts them from 0"}
OUR_SUFFIX = "_1"


def read_results(
    result_folder: Path | str,
    manifest: Manifest | Path | str,
    embedding_shape: tuple[int, ...] = EMBEDDING_SHAPE,
    quiet: bool = True,
) -> tuple[np.ndarray, SequenceIndex]:
    """The embeddings, float32 [N, *embedding_shape], in the manifest's order, and whose they are.

    Takes `<stem>_1.bin` or `<stem>_0.bin`, never some of each. Passes over files that begin with the filler
    prefix and those that do not end in .bin. Raises UserError when files are missing, of the wrong size,
    surplus, not those that the record beside them tells of, equal although their bins are not, or hold values that
    are no numbers: it names the first ones and their number.
    """
    folder = Path(result_folder)
    if not isinstance(manifest, Manifest):
        manifest = read_manifest(manifest)
    stems = [Path(entry["file"]).stem for entry in manifest.entries]
    present = _present(folder)
    suffix = _suffix_of(folder, present, set(stems))
    names = [f"{stem}{suffix}.bin" for stem in stems]
    _check_complete(folder, present, names, manifest.path)
    values = int(np.prod(embedding_shape))
    _check_sizes(folder, present, values)
    embeddings, digests = np.empty((len(stems), values), DTYPE), {}
    bar = progress_bar(names, unit="results", what="reading", quiet=quiet)
    for row, stem, name in zip(embeddings, stems, bar, strict=True):
        content = (folder / name).read_bytes()
        _check_sizes(folder, {name: len(content)}, values)  # it may have changed since
        row[:] = np.frombuffer(content, DTYPE)
        digests[stem] = digest_of(content)
    _check_origin(folder, manifest, digests, suffix)
    finite = np.isfinite(embeddings).all(1)
    if not finite.all():
        bad = [names[i] for i in np.flatnonzero(~finite)]
        raise UserError(f"{folder}: {_listed(bad)} hold values that are no finite numbers; convert with more precision")
    return embeddings.reshape(-1, *embedding_shape).astype(np.float32, copy=False), manifest.labels


def _check_origin(folder: Path, manifest: Manifest, digests: dict[str, str], suffix: str) -> None:
    """That each result is of the bin whose name it bears. digests: of the results, by stem."""
    record = read_record(folder)
    if record is None:
        logger.warning(
            "%s has no record of what was read and written (the model was run by hand): results are paired with people "
            "by the names of the files alone", folder,
        )  # fmt: skip
        _check_bins(manifest)
    else:
        other = [stem for stem in digests if record.bins.get(stem) != manifest.digests[stem]]
        if other:
            raise UserError(
                f"{folder}: {_listed([f'{stem}{suffix}.bin' for stem in other])} are of other bins than those of "
                f"{manifest.path}; run the model again"
            )
        changed = [f"{stem}{suffix}.bin" for stem in digests if record.results.get(stem) != digests[stem]]
        if changed:
            raise UserError(
                f"{folder}: {_listed(changed)} are not what the model wrote: exchanged or changed since; run it again"
            )
    _check_distinct(folder, manifest, digests, suffix)


def _check_bins(manifest: Manifest) -> None:
    """That the bins, as far as they are still there, are those of the manifest."""
    folder = manifest.path.with_suffix("")
    for entry in manifest.entries:
        bin_file = folder / entry["file"]
        if bin_file.is_file() and digest_of(bin_file.read_bytes()) != entry["digest"]:
            raise UserError(
                f"{bin_file}: is not the bin that {manifest.path} tells of: exchanged or changed since; make the bins "
                "and run the model anew"
            )


def _check_distinct(folder: Path, manifest: Manifest, digests: dict[str, str], suffix: str) -> None:
    first: dict[str, str] = {}
    for stem, digest in digests.items():
        same = first.setdefault(digest, stem)
        if manifest.digests[same] != manifest.digests[stem]:
            raise UserError(
                f"{folder}: {same}{suffix}.bin and {stem}{suffix}.bin are equal, their bins are not: one was copied "
                "over the other, or the model has collapsed; run it again"
            )


def _present(folder: Path) -> dict[str, int]:
    """Name and size of each result file."""
    try:
        with os.scandir(folder) as entries:
            return {
                entry.name: entry.stat().st_size
                for entry in entries
                if entry.name.endswith(".bin") and not entry.name.startswith(FILLER_PREFIX)
            }
    except OSError as error:
        raise UserError(f"{folder}: no folder of results ({error.strerror}); run the deployed model first") from error


def _suffix_of(folder: Path, present: dict[str, int], stems: set[str]) -> str:
    found = {name[-6:-4] for name in present if name[-6:-4] in TOOLS and name[:-6] in stems}
    if len(found) == 2:
        raise UserError(f"{folder}: results of two tools, names end in _0 and in _1; empty the folder and run again")
    if not found:
        tools = " or ".join(f"<stem>{suffix}.bin ({tool})" for suffix, tool in TOOLS.items())
        raise UserError(f"{folder}: no result of the {len(stems)} sequences, expected {tools}; run the deployed model")
    return found.pop()


def _check_complete(folder: Path, present: dict[str, int], expected: list[str], manifest: Path) -> None:
    missing = [name for name in expected if name not in present]
    if missing:
        raise UserError(f"{folder}: {_listed(missing)} of {len(expected)} results are missing; run the model again")
    surplus = sorted(present.keys() - set(expected))
    if surplus:
        raise UserError(f"{folder}: {_listed(surplus)} belong to nothing in {manifest}; empty the folder and run again")


def _check_sizes(folder: Path, present: dict[str, int], values: int) -> None:
    expected = values * DTYPE.itemsize
    wrong = sorted(name for name, size in present.items() if size != expected)
    if wrong:
        size = present[wrong[0]]
        hint = "convert with float32 output" if size * 2 == expected else "run the deployed model again"
        raise UserError(f"{folder}: {_listed(wrong)} have the wrong size, {size} bytes instead of {expected}; {hint}")


def _listed(names: list[str]) -> str:
    return f"{len(names)} files ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
