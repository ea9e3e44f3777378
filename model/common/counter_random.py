"""Counter-based random numbers, which depend only on a key, a name and an index.

Each number is a hash of a key (seed, subject, take, ...), a name and an index. An item therefore gets the same numbers
alone and in a batch, and on all devices of the same type. Drawing numbers under a new name does not change the numbers
of other names. The hash is the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) modulo 2^64 in int64.
"""

import math
import zlib

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Return `x` after a logical right shift. The right shift of torch is arithmetic: it keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


class Draws:
    """Random numbers for b items, whose keys are int64 [b]. All results are [b, *shape] on the device of the keys."""

    def __init__(self, keys: Tensor):
        self.keys = keys

    @staticmethod
    def of(seed: int, purpose: str, *numbers: Tensor) -> "Draws":
        """Derive keys from a seed, a purpose and tensors int64 [b], for example the subjects and takes of the items."""
        key = torch.full_like(numbers[0], seed ^ (zlib.crc32(purpose.encode()) << 24))
        for number in numbers:
            key = _mixed((key + _GOLDEN) ^ _mixed(number * _FIRST + _GOLDEN))
        return Draws(key)

    def __len__(self) -> int:
        return len(self.keys)

    def uniform(self, name: str, low: float | Tensor = 0.0, high: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        """Draw float32 from the uniform distribution between `low` and `high`. The values 0 and 1 are never drawn."""
        count = math.prod(shape)
        index = torch.arange(count, device=self.keys.device) * _GOLDEN + (zlib.crc32(name.encode()) << 16)
        bits = _shifted(_mixed(self.keys[:, None] + _mixed(index)), 41)  # 23 bits: (bits + 1/2) / 2^23 is exact
        u = ((bits.to(torch.float32) + 0.5) * 2.0**-23).view(len(self.keys), *shape)
        return u * (high - low) + low

    def normal(self, name: str, mean: float | Tensor = 0.0, sd: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        """Draw float32 from the normal distribution. Values are at most 5.3 standard deviations from the mean."""
        return torch.special.ndtri(self.uniform(name, shape=shape)) * sd + mean

    def gamma2(self, name: str, mean: float | Tensor, shape: tuple = ()) -> Tensor:
        """Draw float32 from the gamma distribution with shape parameter 2."""
        u = self.uniform(name, shape=(*shape, 2))
        return -u.log().sum(-1) * (mean / 2)

    def chance(self, name: str, probability: float | Tensor, shape: tuple = ()) -> Tensor:
        """Draw booleans that are true with the given probability."""
        return self.uniform(name, shape=shape) < probability

    def choice(self, name: str, count: int, shape: tuple = ()) -> Tensor:
        """Draw uniformly distributed int64 from 0 to count - 1."""
        return (self.uniform(name, shape=shape) * count).long().clamp(max=count - 1)
