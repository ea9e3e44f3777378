"""Metadata of a checkpoint: a JSON file with the checksums of its files and the configuration of the training."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoints.names import ENCODER_SUFFIX
from model.common.errors import UserError
from model.common.json_files import write_json
from model.common.schema import read_checked

log = logging.getLogger(__name__)


_SCHEMA, _PROBLEM = {"files": {}, "time": float}, "not the metadata of a checkpoint"


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
