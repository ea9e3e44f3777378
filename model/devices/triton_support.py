"""Check whether Triton kernels work on a device."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

import torch

from model.common.errors import first_line
from model.devices.device import kind_of

log = logging.getLogger(__name__)

MIN_CAPABILITY = (8, 0)  # oldest compute capability for which current Triton versions compile matrix products


@cache
def works(device: torch.device) -> bool:
    """Return whether Triton kernels run on `device`. A failure on a supported device is logged as a warning."""
    if not kind_of(device).triton or importlib.util.find_spec("triton") is None:
        return False
    if torch.get_device_module(device).get_device_capability(device) < MIN_CAPABILITY:
        return False
    try:
        run_trial_kernel(device)
    except Exception as error:  # no C compiler, no header, an old driver: Triton raises various types
        log.warning("Triton does not work here (%s): torch's own kernels are used instead", first_line(error))
        return False
    return True


def run_trial_kernel(device: torch.device) -> None:
    """Compile and run a small kernel. Raises the exception of Triton if this fails."""
    from model.devices.triton_trial import increment  # imports Triton, which may not be installed

    values = torch.zeros(4, device=device)
    increment[(1,)](values, size=4)
