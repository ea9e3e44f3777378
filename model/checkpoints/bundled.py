"""The encoder that is part of the project, trained only on synthetic walkers, for users without a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from model.checkpoints.metadata import ENCODER_SUFFIX, encoders_in
from model.common.geometry import SET_CHANNELS

FOLDER = Path(__file__).resolve().parents[2] / "work" / "checkpoint" / "GaitSet"
HIDDEN_DIM = 256


def bundled_encoder() -> Path | None:
    """Return the newest bundled encoder; None if the user deleted it. The model card next to it ends in `.md`."""
    return max(FOLDER.glob(f"GaitSet_Synthetic-v*{ENCODER_SUFFIX}"), default=None)


def bundled_checkpoint(folder: Path, hidden_dim: int, channels: Sequence[int] = SET_CHANNELS) -> Path | None:
    """Return the bundled encoder if it fits a network of these sizes and `folder` holds no encoder of the user."""
    bundled = bundled_encoder()
    of_user = [path for path in encoders_in(folder) if bundled is None or path.resolve() != bundled]
    return None if of_user or (hidden_dim, tuple(channels)) != (HIDDEN_DIM, SET_CHANNELS) else bundled
