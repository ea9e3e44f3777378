"""Names and metadata of checkpoint files.

A part is <experiment>-<iteration>-<part>.ptm. The metadata are <experiment>-<iteration>.json, a JSON file with the
checksums of the parts and the configuration of the training.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.common.errors import UserError
from model.common.json_files import write_json
from model.common.schema import read_checked

log = logging.getLogger(__name__)

PARTS = ("encoder", "optimizer", "state")
METADATA = "metadata"
ENCODER_SUFFIX = "-encoder.ptm"
_NAME = re.compile(rf"(.+)-([0-9]{{5,}})(?:-({'|'.join(PARTS)})\.ptm|\.json)", re.DOTALL)
_SCHEMA, _PROBLEM = {"files": {}, "time": float}, "not the metadata of a checkpoint"


def checkpoint_name(experiment: str, iteration: int, part: str) -> str:
    """Return the name of one of PARTS, or of METADATA."""
    return f"{experiment}-{iteration:05d}{'.json' if part == METADATA else f'-{part}.ptm'}"


def parse_name(name: str) -> tuple[str, int, str] | None:
    """Return the arguments of `checkpoint_name`, or None if `name` is not the name of a checkpoint file."""
    match = _NAME.fullmatch(name)
    return match and (match[1], int(match[2]), match[3] or METADATA)


def encoders_in(folder: Path) -> list[Path]:
    """Return all encoders in `folder`, of any experiment and also under names that users chose, in order of name."""
    return sorted(folder.glob(f"*{ENCODER_SUFFIX}"))


def names_of_encoders(folder: Path) -> str:
    """Return the names of the last encoders in `folder`, for a message."""
    return ", ".join(encoder.name for encoder in encoders_in(folder)[-3:]) or "no checkpoints"


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Read the metadata of a checkpoint. Return None if there are none; if they are damaged, also log a warning."""
    if not path.exists():
        return None
    try:
        return read_checked(path, _SCHEMA, _PROBLEM, "the checkpoint is treated as one without metadata", sealed=True)
    except UserError as error:
        log.warning("%s", error)
        return None


def metadata_of_encoder(encoder: Path, sha256: str | None) -> dict[str, Any]:
    """Return the metadata next to an encoder, empty without any. Raise UserError if they state another checksum."""
    if not encoder.name.endswith(ENCODER_SUFFIX):
        return {}
    path = encoder.with_name(f"{encoder.name.removesuffix(ENCODER_SUFFIX)}.json")
    metadata = read_metadata(path) or {}
    if metadata and metadata["files"].get("encoder") != sha256:
        raise UserError(
            f"{encoder}: checksum does not match {path.name}: the file is damaged or from another run (rename it to "
            "load it anyway)"
        )
    return metadata


def update_metadata(path: Path, changes: Mapping[str, Any]) -> None:
    """Replace values in existing metadata. Raises UserError if they are damaged."""
    metadata = read_checked(path, _SCHEMA, _PROBLEM, "resume from another checkpoint", sealed=True)
    write_json(path, {**metadata, **changes}, durable=True, sealed=True)


def checksum(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if it is missing or cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
