"""The GaitSet network and its triplet losses."""

from model.network.gaitset import GaitSet
from model.network.triplet import triplet_losses

__all__ = ["GaitSet", "triplet_losses"]
