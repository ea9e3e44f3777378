"""Triton kernels for where a profile said that torch's own leave time on the table. All have plain twins beside them.

The modules below import Triton, so they are imported only where `usable` says yes.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

import torch
from torch import Tensor

from model.common.errors import UserError
from model.devices.device import kind_of

log = logging.getLogger(__name__)


OLDEST = (8, 0)  # compute capability that current versions of Triton compile matrix products for
MOST_FRAMES = (2**31 - 1) // (32 * 22 * 32)  # whose pooled maps the first layers' kernels can count in 32 bits


@cache
def usable(device: torch.device) -> bool:
    """Whether the kernels run on `device`; where they should and do not, the log says why."""
    if not kind_of(device).triton or importlib.util.find_spec("triton") is None:
        return False
    if torch.get_device_module(device).get_device_capability(device) < OLDEST:
        return False
    try:
        active_triplets(torch.zeros(1, 4, 4, device=device), 2, 0.0)
    except Exception as error:  # no C compiler, no header, a driver too old: Triton has no error of its own for them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        log.warning("Triton does not work here (%s): torch's own kernels are used instead", reason)
        return False
    return True


def active_triplets(dist: Tensor, sequences: int, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    from model.network.kernels.triplet_counts import active_triplets

    return active_triplets(dist, sequences, margin)


def pooled_maps(network, frames: Tensor, ends: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    if len(frames) > MOST_FRAMES:
        raise UserError(
            f"{len(frames)} frames at once are more than the project's kernels can count ({MOST_FRAMES}): "
            "take a smaller batch or --kernels plain"
        )
    from model.network.kernels.set_layers import pooled_maps

    return pooled_maps(network, frames, ends, dtype)
