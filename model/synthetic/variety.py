"""Draws whose spread between people can be turned down: at a variety of 0 everybody is the average person."""

from __future__ import annotations

from torch import Tensor

from model.common.counter_random import Draws


class Varied:
    """As `Draws`, every deviation from the mean times `variety`. What only some people have, nobody has at 0.

    `kind` goes before every name, so that bodies, gaits and clothes drawn from the same `Draws` are independent.
    """

    def __init__(self, draws: Draws, kind: str, variety: float = 1.0):
        self.draws, self.kind, self.variety = draws, kind, variety

    def _name(self, name: str) -> str:
        return f"{self.kind} {name}"

    def normal(self, name: str, mean: float | Tensor = 0.0, sd: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        return self.draws.normal(self._name(name), shape=shape) * self.variety * sd + mean

    def bounded(self, name: str, mean: float | Tensor, sd: float | Tensor, low: float, shape: tuple = ()) -> Tensor:
        """Normal, but not below `low`."""
        return self.normal(name, mean, sd, shape).clamp(min=low)

    def between(self, name: str, low: float | Tensor, high: float | Tensor, shape: tuple = ()) -> Tensor:
        """Uniform around the middle of the two."""
        middle = (low + high) / 2
        return middle + (self.draws.uniform(self._name(name), shape=shape) - 0.5) * (high - low) * self.variety

    def skewed(self, name: str, mean: float | Tensor, shape: tuple = ()) -> Tensor:
        """Gamma of shape 2 around its mean."""
        return mean + (self.draws.gamma2(self._name(name), mean, shape) - mean) * self.variety

    def chance(self, name: str, probability: float | Tensor, shape: tuple = ()) -> Tensor:
        return self.draws.chance(self._name(name), probability * self.variety, shape)
