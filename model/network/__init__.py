"""The set network and its loss."""

from model.network.gaitset import GaitSet
from model.network.triplet import TripletLosses, triplet_losses

__all__ = ["GaitSet", "TripletLosses", "triplet_losses"]
