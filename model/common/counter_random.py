"""Random numbers by name: what one walker draws depends on nothing else that is drawn, nor on who is drawn beside it.

A number is a hash of a key (seed, subject, take, ...), of its name and of its place, so any walker, alone or in a batch
of thousands, on any device of a kind, is the same; and a new kind of number changes none of those there were. The hash
is the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), whose 64 bits are taken modulo 2^64 as int64.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


class Draws:
    """Numbers for each of b things, one key int64 [b] each. Every answer is float32 [b, *shape] on the keys' device."""

    def __init__(self, keys: Tensor):
        self.keys = keys

    @staticmethod
    def of(seed: int, purpose: str, *numbers: Tensor) -> Draws:
        """`numbers` int64 [b] each, e.g. subjects and takes, tell the things apart."""
        key = torch.full_like(numbers[0], seed ^ (zlib.crc32(purpose.encode()) << 24))
        for number in numbers:
            key = _mixed((key + _GOLDEN) ^ _mixed(number * _FIRST + _GOLDEN))
        return Draws(key)

    def __len__(self) -> int:
        return len(self.keys)

    def uniform(self, name: str, low: float | Tensor = 0.0, high: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        """Above `low` and below `high`, each a number or a tensor that goes with the answer."""
        count = math.prod(shape)
        place = torch.arange(count, device=self.keys.device) * _GOLDEN + (zlib.crc32(name.encode()) << 16)
        bits = _shifted(_mixed(self.keys[:, None] + _mixed(place)), 41)  # 23 bits: (bits + 1/2) / 2^23 is exact
        u = ((bits.to(torch.float32) + 0.5) * 2.0**-23).view(len(self.keys), *shape)
        return u * (high - low) + low

    def normal(self, name: str, mean: float | Tensor = 0.0, sd: float | Tensor = 1.0, shape: tuple = ()) -> Tensor:
        """At most 5.2 standard deviations from the mean."""
        return torch.special.ndtri(self.uniform(name, shape=shape)) * sd + mean

    def gamma2(self, name: str, mean: float | Tensor, shape: tuple = ()) -> Tensor:
        """Gamma distribution of shape 2: above 0, mostly below the mean, at times far above."""
        u = self.uniform(name, shape=(*shape, 2))
        return -u.log().sum(-1) * (mean / 2)

    def chance(self, name: str, probability: float | Tensor, shape: tuple = ()) -> Tensor:
        """Boolean: true with that probability."""
        return self.uniform(name, shape=shape) < probability

    def choice(self, name: str, count: int, shape: tuple = ()) -> Tensor:
        """int64: one of 0 .. count - 1, each as likely."""
        return (self.uniform(name, shape=shape) * count).long().clamp(max=count - 1)
