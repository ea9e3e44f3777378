"""Names of checkpoint files: build, parse and find them.

A part is <experiment>-<iteration>-<part>.ptm, the metadata are <experiment>-<iteration>.json.
"""

import re
from pathlib import Path
from typing import NamedTuple

PARTS = ("encoder", "optimizer", "state")
METADATA = "metadata"
ENCODER_SUFFIX = "-encoder.ptm"

_NAME = re.compile(rf"(.+)-([0-9]{{5,}})(?:-({'|'.join(PARTS)})\.ptm|\.json)", re.DOTALL)


class CheckpointName(NamedTuple):
    """One file of a checkpoint. `part` is one of PARTS, or METADATA."""

    experiment: str
    iteration: int
    part: str

    def __str__(self) -> str:
        suffix = ".json" if self.part == METADATA else f"-{self.part}.ptm"
        return f"{self.experiment}-{self.iteration:05d}{suffix}"


def parse_name(name: str) -> CheckpointName | None:
    """Return the parts of a file name; None if it is not the name of a checkpoint file."""
    match = _NAME.fullmatch(name)
    return match and CheckpointName(match[1], int(match[2]), match[3] or METADATA)


def files_of_experiment(folder: Path, experiment: str) -> dict[Path, CheckpointName]:
    """Return the checkpoint files of `experiment` in `folder`."""
    names = {path: parse_name(path.name) for path in folder.glob("*")}
    return {path: name for path, name in names.items() if name is not None and name.experiment == experiment}


def encoders_in(folder: Path) -> list[Path]:
    """Return all encoders in `folder`, of any experiment and also under names that users chose, in order of name."""
    return sorted(folder.glob(f"*{ENCODER_SUFFIX}"))


def names_of_encoders(folder: Path) -> str:
    """Return the names of the last encoders in `folder`, for a message."""
    return ", ".join(encoder.name for encoder in encoders_in(folder)[-3:]) or "no checkpoints"


def encoder_stem(encoder: Path) -> str:
    """Return the name of an encoder without `-encoder.ptm`; any other name is returned unchanged."""
    return encoder.name.removesuffix(ENCODER_SUFFIX)
