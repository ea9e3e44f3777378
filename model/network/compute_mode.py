"""The precision and the kernels with which a network computes, decided once for all processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.common.errors import UsageError
from model.common.geometry import SET_CHANNELS
from model.devices import distributed, triton_support
from model.devices.device import precision_of, warn_of_rounding
from model.network import kernels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComputeMode:
    """How a network computes; the default is float32 with torch's own kernels.

    Attributes:
        amp: off, torch or apex.
        amp_dtype: dtype of autocast; None without autocast, as with apex, which converts the weights instead.
        needs_loss_scale: whether gradients can underflow in `amp_dtype`.
        triton: whether Triton kernels compute the loss and, in half precision, the set layers.
        channels: of the set layers.
    """

    amp: str = "off"
    amp_dtype: torch.dtype | None = None
    needs_loss_scale: bool = False
    triton: bool = False
    channels: Sequence[int] = SET_CHANNELS

    @property
    def fused(self) -> bool:
        """Whether Triton kernels compute the set layers.

        They are not used in float32, because they round to half precision, or for channels that they do not support.
        """
        return self.triton and self.amp_dtype is not None and kernels.supports(self.channels)


def make_compute_mode(
    amp: str, amp_dtype: str, kernels_wanted: str, device: torch.device, channels: Sequence[int] = SET_CHANNELS
) -> ComputeMode:
    """Return the mode for `--amp`, `--amp_dtype` (empty: the default of the device) and `--kernels`. Collective call.

    Raises:
        UsageError: if apex or the device cannot compute in `amp_dtype`.
    """
    if amp == "apex" and amp_dtype == "bf16":
        raise UsageError("--amp apex computes in fp16: use --amp_dtype bf16 with --amp torch")
    if amp == "off":
        warn_of_rounding(device)
    dtype, needs_loss_scale = precision_of(device, amp_dtype or None) if amp == "torch" else (None, False)
    mode = ComputeMode(amp, dtype, needs_loss_scale, use_triton_kernels(kernels_wanted, device), channels)
    if mode.triton and dtype is not None and not mode.fused:
        log.info("torch's kernels compute the set layers: the Triton kernels do not support channels %s", channels)
    return mode


def use_triton_kernels(kernels_wanted: str, device: torch.device) -> bool:
    """Return whether to use Triton kernels: if enabled and supported on every rank. Collective call.

    All ranks must agree, because with these kernels the gradients travel in other messages.
    """
    if kernels_wanted == "plain":
        return False
    here = triton_support.works(device)
    everywhere = distributed.every_process(here, device)
    if here and not everywhere:
        log.warning("Triton kernels do not work in every process: all processes use torch's kernels")
    return everywhere
