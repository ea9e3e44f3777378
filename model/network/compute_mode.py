"""Choose the precision and the kernels of a network. All processes of a run make the same choice."""

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
    """The precision and the kernels of a network. The default is float32 with torch's own kernels.

    Attributes:
        amp: kind of mixed precision: `off`, `torch` or `apex`.
        amp_dtype: dtype of autocast if `amp` is `torch`, otherwise None. apex converts the weights instead.
        needs_loss_scale: whether the loss must be scaled, because gradients can underflow in `amp_dtype`.
        triton: whether Triton kernels compute the loss. If `fused` is True, they also compute the network.
        channels: numbers of channels of the three pairs of set layers.
    """

    amp: str = "off"
    amp_dtype: torch.dtype | None = None
    needs_loss_scale: bool = False
    triton: bool = False
    channels: Sequence[int] = SET_CHANNELS

    @property
    def fused(self) -> bool:
        """Whether the network uses Triton kernels.

        These kernels compute in half precision, so a float32 network does not use them. A network with unsupported
        numbers of channels does not use them either.
        """
        return self.triton and self.amp_dtype is not None and kernels.supports(self.channels)


def make_compute_mode(
    amp: str, amp_dtype: str, kernels_wanted: str, device: torch.device, channels: Sequence[int] = SET_CHANNELS
) -> ComputeMode:
    """Return the mode for the values of `--amp`, `--amp_dtype` and `--kernels`. Collective call.

    Args:
        amp_dtype: `fp16`, `bf16`, or an empty string for the default of the device.

    Raises:
        UsageError: if apex or the device cannot compute in `amp_dtype`.
    """
    if amp == "apex" and amp_dtype == "bf16":
        raise UsageError("--amp apex --amp_dtype bf16: apex computes only in fp16; use --amp torch for bf16")
    if amp == "off":
        warn_of_rounding(device)
    dtype, needs_loss_scale = precision_of(device, amp_dtype or None) if amp == "torch" else (None, False)
    mode = ComputeMode(amp, dtype, needs_loss_scale, use_triton_kernels(kernels_wanted, device), channels)
    if mode.triton and dtype is not None and not mode.fused:
        log.info("torch's kernels compute the network: the Triton kernels do not support channels %s", channels)
    return mode


def use_triton_kernels(kernels_wanted: str, device: torch.device) -> bool:
    """Return True if Triton kernels are enabled and work on every rank. Collective call.

    All ranks must use the same kernels, because the exchange of gradients depends on the kernels: CudaGraphStep sends
    all gradients in one message, and DistributedDataParallel sends them in several messages.
    """
    if kernels_wanted == "plain":
        return False
    here = triton_support.works(device)
    everywhere = distributed.every_process(here, device)
    if here and not everywhere:
        log.warning("Triton kernels do not work in every process: all processes use torch's kernels")
    return everywhere
