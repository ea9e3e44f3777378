"""Build and parse the names of checkpoint files, and read and update the metadata of checkpoints.

A checkpoint consists of the parts <experiment>-<iteration>-<part>.ptm and the metadata <experiment>-<iteration>.json.
The metadata hold the checksums of the parts and the configuration of the training.
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
    """Return the name of a checkpoint file. `part` is one of PARTS, or METADATA."""
    return f"{experiment}-{iteration:05d}{'.json' if part == METADATA else f'-{part}.ptm'}"


def parse_name(name: str) -> tuple[str, int, str] | None:
    """Return the arguments of `checkpoint_name`, or None if `name` is not the name of a checkpoint file."""
    match = _NAME.fullmatch(name)
    return match and (match[1], int(match[2]), match[3] or METADATA)


def encoders_in(folder: Path) -> list[Path]:
    """Return the files in `folder` whose names end in ENCODER_SUFFIX, sorted by name."""
    return sorted(folder.glob(f"*{ENCODER_SUFFIX}"))


def names_of_encoders(folder: Path) -> str:
    """Return the names of at most three encoders in `folder`, the last ones in sorted order, for a message."""
    return ", ".join(encoder.name for encoder in encoders_in(folder)[-3:]) or "no checkpoints"


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Return the metadata of a checkpoint, or None if the file does not exist.

    If the metadata are damaged, log a warning and return None.
    """
    if not path.exists():
        return None
    try:
        return read_checked(path, _SCHEMA, _PROBLEM, "the checkpoint is treated as one without metadata", sealed=True)
    except UserError as error:
        log.warning("%s", error)
        return None


def metadata_of_encoder(encoder: Path, sha256: str | None) -> dict[str, Any]:
    """Return the metadata next to an encoder, or an empty dict if there are no metadata.

    Raises UserError if the metadata belong to a different encoder, because the checksums differ.
    """
    if not encoder.name.endswith(ENCODER_SUFFIX):
        return {}
    path = encoder.with_name(f"{encoder.name.removesuffix(ENCODER_SUFFIX)}.json")
    metadata = read_metadata(path) or {}
    if metadata and metadata["files"].get("encoder") != sha256:
        raise UserError(
            f"{encoder}: the checksum does not match {path.name}, because the file is damaged or from another run; "
            "use another checkpoint, or rename the file to load it anyway"
        )
    return metadata


def update_metadata(path: Path, changes: Mapping[str, Any]) -> None:
    """Replace values in existing metadata. Raises UserError if the metadata are missing or damaged."""
    metadata = read_checked(path, _SCHEMA, _PROBLEM, "resume from another checkpoint", sealed=True)
    write_json(path, {**metadata, **changes}, durable=True, sealed=True)


def checksum(path: Path) -> str | None:
    """Return the SHA-256 of a file, or None if the file is missing or cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
