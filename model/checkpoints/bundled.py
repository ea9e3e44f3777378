"""Find the bundled encoder, which is part of the project for users who have no checkpoint.

It was trained only on synthetic walkers.
"""

from collections.abc import Sequence
from pathlib import Path

from model.checkpoints.metadata import ENCODER_SUFFIX, encoders_in
from model.common.geometry import SET_CHANNELS

FOLDER = Path(__file__).resolve().parents[2] / "work" / "checkpoint" / "GaitSet"
HIDDEN_DIM = 256


def bundled_encoder() -> Path | None:
    """Return the newest bundled encoder, or None if the user has deleted it. A file `.md` next to it describes it."""
    return max(FOLDER.glob(f"GaitSet_Synthetic-v*{ENCODER_SUFFIX}"), default=None)


def bundled_checkpoint(folder: Path, hidden_dim: int, channels: Sequence[int] = SET_CHANNELS) -> Path | None:
    """Return the bundled encoder, or None if `folder` holds an encoder of the user or the sizes do not fit."""
    bundled = bundled_encoder()
    of_user = [path for path in encoders_in(folder) if bundled is None or path.resolve() != bundled]
    return None if of_user or (hidden_dim, tuple(channels)) != (HIDDEN_DIM, SET_CHANNELS) else bundled
