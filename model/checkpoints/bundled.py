"""The encoder that comes with the project, trained on synthetic walkers alone: for those who have no checkpoint yet."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "work" / "checkpoint" / "GaitSet"
HIDDEN_DIM = 256


def shipped_encoder() -> Path | None:
    """The newest version there is; beside it a model card, `.md`, that tells what it can do. None: it was removed."""
    return max(FOLDER.glob("GaitSet_Synthetic-v*-encoder.ptm"), default=None)


def stands_in(folder: Path, hidden_dim: int) -> Path | None:
    """The shipped encoder, where `folder` holds no checkpoint of the user's and a network of `hidden_dim` is wanted."""
    shipped = shipped_encoder()
    others = [path for path in folder.glob("*-encoder.ptm") if shipped is None or path.resolve() != shipped]
    return None if others or hidden_dim != HIDDEN_DIM else shipped
