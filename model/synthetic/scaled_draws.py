"""Random draws whose spread between people can be scaled: at a variety of 0, everybody is the average person."""

from torch import Tensor

from model.common.counter_random import Draws


class ScaledDraws:
    """`Draws` with every deviation from the mean multiplied by `variety`.

    At a variety of 0, nobody has an optional trait (see `chance`). `prefix` is put in front of every name, so that
    bodies and gaits drawn from the same `Draws` are independent.
    """

    def __init__(self, draws: Draws, prefix: str, variety: float = 1.0):
        self.draws, self.prefix, self.variety = draws, prefix, variety

    def _name(self, name: str) -> str:
        return f"{self.prefix} {name}"

    def normal(self, name: str, mean: float | Tensor = 0.0, sd: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        """Normal distribution."""
        return self.draws.normal(self._name(name), shape=shape) * self.variety * sd + mean

    def between(self, name: str, low: float | Tensor, high: float | Tensor, shape: tuple = ()) -> Tensor:
        """Uniform distribution around the middle of `low` and `high`."""
        middle = (low + high) / 2
        return middle + (self.draws.uniform(self._name(name), shape=shape) - 0.5) * (high - low) * self.variety

    def skewed(self, name: str, mean: float | Tensor, shape: tuple = ()) -> Tensor:
        """Gamma distribution of shape 2."""
        return mean + (self.draws.gamma2(self._name(name), mean, shape) - mean) * self.variety

    def chance(self, name: str, probability: float | Tensor, shape: tuple = ()) -> Tensor:
        """Boolean: true with `probability` times the variety."""
        return self.draws.chance(self._name(name), probability * self.variety, shape)
