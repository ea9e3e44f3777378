"""Triton kernels for where a profile said that torch's own leave time on the table. All have plain twins beside them.

The modules below import Triton, so they are imported only where `usable` says yes.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor

from model.device import kind_of


@cache
def usable(device: torch.device) -> bool:
    """Whether the kernels run on `device`: it must be of a kind that Triton compiles for, and Triton must be there."""
    return kind_of(device).triton and importlib.util.find_spec("triton") is not None


def active_triplets(dist: Tensor, sequences: int, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    from model.network.fused.triplet_counts import active_triplets

    return active_triplets(dist, sequences, margin)


def pooled_maps(network, frames: Tensor, ends: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    from model.network.fused.set_layers import pooled_maps

    return pooled_maps(network, frames, ends, dtype)
