"""Keep the result record: a file with the digests of the input files that a runtime read and of the results it wrote.

The record is needed because result files contain no labels. With the record, `result_files` detects results that were
swapped, copied or changed after the run, and results whose input files were created again after the run.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.common.files import atomic_folder
from model.common.json_files import write_json
from model.common.lock import locked
from model.common.schema import read_checked

FORMAT = "gaitset-results-1"
_SCHEMA = {"format": FORMAT, "bins": {str: str}, "results": {str: str}}


def record_path(result_folder: Path) -> Path:
    """Return the path of the record, such as dumpOutput_device0_record.json next to dumpOutput_device0."""
    return result_folder.with_name(f"{result_folder.name}_record.json")


def remove_record(result_folder: Path) -> None:
    """Remove the record. Call this before the results are replaced, so that a record never describes other results."""
    record_path(result_folder).unlink(missing_ok=True)


@contextmanager
def replaced_results(result_folder: Path) -> Iterator[tuple[Path, dict[str, str], dict[str, str]]]:
    """Yield a temporary folder for results, and two dicts for the digests of the input files and of the results.

    The keys of both dicts are the stems of the input files. At the end of the block, the temporary folder replaces
    `result_folder` as a whole, and the digests become the record of the new results.
    """
    bins: dict[str, str] = {}
    results: dict[str, str] = {}
    with (
        locked(result_folder.with_name(f".{result_folder.name}.lock"), result_folder),
        atomic_folder(result_folder) as part,
    ):
        yield part, bins, results
        remove_record(result_folder)
    write_record(result_folder, bins, results)


def write_record(result_folder: Path, bins: Mapping[str, str], results: Mapping[str, str]) -> None:
    content = {"format": FORMAT, "bins": dict(bins), "results": dict(results)}
    write_json(record_path(result_folder), content, sealed=True)


def read_record(result_folder: Path) -> dict[str, Any] | None:
    """Read the digests of the input files (`bins`) and of the results (`results`), by the stem of the input file.

    Returns None if there is no record, because a user ran the tool without this project. Raises UserError if the record
    is invalid.
    """
    path = record_path(result_folder)
    if not path.exists():
        return None
    problem = f"damaged, or not a result record ({FORMAT})"
    return read_checked(path, _SCHEMA, problem, "run the deployed model again", sealed=True)
