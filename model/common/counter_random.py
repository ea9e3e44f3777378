"""Counter-based random numbers, which depend only on a key, a name and an index.

Each number is a hash of a key (seed, subject, take, ...), a name and an index. An item therefore gets the same numbers
alone or in a batch, and on all devices of the same type, and new names do not change existing numbers. The hash is the
finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), computed modulo 2^64 in int64.
"""

import math
import zlib

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift. The right shift of torch keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


class Draws:
    """Random numbers for b items with keys int64 [b]. All results are float32 [b, *shape] on the device of the keys."""

    def __init__(self, keys: Tensor):
        self.keys = keys

    @staticmethod
    def of(seed: int, purpose: str, *numbers: Tensor) -> "Draws":
        """Derive keys from a seed, a purpose, and `numbers` int64 [b] each, for example subjects and takes."""
        key = torch.full_like(numbers[0], seed ^ (zlib.crc32(purpose.encode()) << 24))
        for number in numbers:
            key = _mixed((key + _GOLDEN) ^ _mixed(number * _FIRST + _GOLDEN))
        return Draws(key)

    def __len__(self) -> int:
        return len(self.keys)

    def uniform(self, name: str, low: float | Tensor = 0.0, high: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        """Uniform distribution between `low` and `high`, both exclusive. They can be tensors."""
        count = math.prod(shape)
        index = torch.arange(count, device=self.keys.device) * _GOLDEN + (zlib.crc32(name.encode()) << 16)
        bits = _shifted(_mixed(self.keys[:, None] + _mixed(index)), 41)  # 23 bits: (bits + 1/2) / 2^23 is exact
        u = ((bits.to(torch.float32) + 0.5) * 2.0**-23).view(len(self.keys), *shape)
        return u * (high - low) + low

    def normal(self, name: str, mean: float | Tensor = 0.0, sd: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        """Normal distribution. Values are at most 5.2 standard deviations from the mean."""
        return torch.special.ndtri(self.uniform(name, shape=shape)) * sd + mean

    def gamma2(self, name: str, mean: float | Tensor, shape: tuple = ()) -> Tensor:
        """Gamma distribution with shape parameter 2."""
        u = self.uniform(name, shape=(*shape, 2))
        return -u.log().sum(-1) * (mean / 2)

    def chance(self, name: str, probability: float | Tensor, shape: tuple = ()) -> Tensor:
        """Boolean that is true with the given probability."""
        return self.uniform(name, shape=shape) < probability

    def choice(self, name: str, count: int, shape: tuple = ()) -> Tensor:
        """Uniformly distributed int64 from 0 to count - 1."""
        return (self.uniform(name, shape=shape) * count).long().clamp(max=count - 1)
