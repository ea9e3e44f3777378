"""What a runtime notes beside its results: which bins it has read, and what it wrote of each.

Result files bear names only. By this record one that was exchanged, copied or changed afterwards is told, and results
of bins that have since been made anew, whatever their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.common.errors import UserError
from model.common.files import read_json, write_json

FORMAT = "gaitset-results-1"


@dataclass(frozen=True)
class ResultRecord:
    """Digests by the stem of the bin's name: of the bins that were read, of the results that were written."""

    path: Path
    bins: Mapping[str, str]
    results: Mapping[str, str]


def record_path(result_folder: Path) -> Path:
    """dumpOutput_device0 -> dumpOutput_device0_record.json, beside it: the folder holds results only."""
    return result_folder.with_name(f"{result_folder.name}_record.json")


def remove_record(result_folder: Path) -> None:
    """To be called just before the results are replaced: it must never tell of others."""
    record_path(result_folder).unlink(missing_ok=True)


def write_record(result_folder: Path, bins: Mapping[str, str], results: Mapping[str, str]) -> None:
    content = {"format": FORMAT, "bins": dict(bins), "results": dict(results)}
    write_json(record_path(result_folder), content, sealed=True)


def read_record(result_folder: Path) -> ResultRecord | None:
    """None where there is none, as after a tool that was run by hand. Raises UserError for a damaged one."""
    path = record_path(result_folder)
    if not path.exists():
        return None
    content = read_json(path, sealed=True)
    parts = [content.get(part) for part in ("bins", "results")] if isinstance(content, dict) else []
    sound = parts and all(
        isinstance(part, dict) and all(isinstance(digest, str) for digest in part.values()) for part in parts
    )
    if not sound or content.get("format") != FORMAT:
        raise UserError(f"{path}: no record of results ({FORMAT}); run the deployed model again")
    return ResultRecord(path, *parts)
