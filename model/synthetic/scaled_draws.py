"""Random draws whose spread between people can be scaled: at a variety of 0, everybody is the average person."""

from torch import Tensor

from model.common.counter_random import Draws


class ScaledDraws(Draws):
    """`Draws` in which every deviation from the mean is multiplied by `variety`.

    At a variety of 0, nobody has an optional trait (see `chance`). `prefix` is put in front of every name, so that
    bodies and gaits with the same keys are independent.
    """

    def __init__(self, draws: Draws, prefix: str, variety: float = 1.0):
        super().__init__(draws.keys)
        self.prefix, self.variety = prefix, variety

    def uniform(self, name: str, low: float | Tensor = 0.0, high: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        """Uniform distribution, whose spread is not scaled, because the other distributions are derived from it."""
        return super().uniform(f"{self.prefix} {name}", low, high, shape)

    def normal(self, name: str, mean: float | Tensor = 0.0, sd: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        """Normal distribution with the standard deviation `sd` times `variety`."""
        return super().normal(name, shape=shape) * self.variety * sd + mean

    def between(self, name: str, low: float | Tensor, high: float | Tensor) -> Tensor:
        """Uniform distribution around the middle of `low` and `high`; at a variety of 1, from `low` to `high`."""
        return (low + high) / 2 + (self.uniform(name) - 0.5) * (high - low) * self.variety

    def skewed(self, name: str, mean: float | Tensor) -> Tensor:
        """Gamma distribution with shape parameter 2."""
        return mean + (self.gamma2(name, mean) - mean) * self.variety

    def chance(self, name: str, probability: float | Tensor, shape: tuple = ()) -> Tensor:
        """Boolean that is true with `probability` times `variety`."""
        return super().chance(name, probability * self.variety, shape)
