"""The GaitSet network and its triplet losses."""

from model.network.gaitset import GaitSet
from model.network.triplet import TripletLosses, triplet_losses

__all__ = ["GaitSet", "TripletLosses", "triplet_losses"]
