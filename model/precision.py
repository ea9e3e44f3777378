"""Mixed precision: off, torch's own, or apex as the NPU port uses it."""

from __future__ import annotations

import importlib
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.device import precision_of
from model.errors import UsageError


class Precision(Protocol):
    """How one training step runs in the chosen precision."""

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        """Gradients of `loss`, scaled where the precision needs that."""

    def step(self, optimizer: Optimizer) -> None:
        """One step, or none where a gradient is not finite and the precision can try another scale."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


class FullPrecision:
    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        loss.backward()

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


class TorchPrecision:
    """A GradScaler beside a network that computes in half precision, where that needs one.

    loss_scale: `dynamic`, or a number that stays.
    """

    def __init__(self, device: torch.device, scales: bool, loss_scale: str):
        self.static = None if loss_scale == "dynamic" else float(loss_scale)
        self.scaler = torch.amp.GradScaler(device.type, init_scale=self.static or 65536.0, enabled=scales)

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        self.scaler.scale(loss).backward()

    def step(self, optimizer: Optimizer) -> None:
        self.scaler.step(optimizer)
        # The scaler has no switch for a scale that stays; told a new scale each time, it keeps to it and
        # still leaves out steps with infinite gradients.
        self.scaler.update(self.static)

    def state_dict(self) -> dict:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        if state:
            self.scaler.load_state_dict(state)


class ApexPrecision:
    """`amp.initialize` at O2 and `amp.scale_loss`, the calls of the NPU port (which used a static scale of 32)."""

    def __init__(self, amp, network: nn.Module, optimizer: Optimizer, loss_scale: str):
        self.amp = amp
        scale = loss_scale if loss_scale == "dynamic" else float(loss_scale)
        self.network, self.optimizer = amp.initialize(network, optimizer, opt_level="O2", loss_scale=scale)

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        with self.amp.scale_loss(loss, optimizer) as scaled:
            scaled.backward()

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    def state_dict(self) -> dict:
        return self.amp.state_dict()

    def load_state_dict(self, state: dict) -> None:
        if state:
            self.amp.load_state_dict(state)


def import_apex_amp():
    """`apex.amp`. Raises UsageError with a line that says which package of that name is there, if any is."""
    advice = "use --amp torch, or build apex from its source; the package index has another thing under that name"
    try:
        apex = importlib.import_module("apex")
    except ImportError as error:
        raise UsageError(f"--amp apex: apex is not installed ({error}); {advice}") from None
    try:
        amp = importlib.import_module("apex.amp")
    except ImportError:
        amp = None
    if not hasattr(amp, "initialize"):
        what = (
            "an apex without amp (NVIDIA removed it in 2025)" if hasattr(apex, "normalization") else "another package"
        )
        raise UsageError(f"--amp apex: {apex.__name__} is {what}; {advice}")
    return amp


def make_precision(
    amp: str, network: nn.Module, optimizer: Optimizer, device: torch.device, amp_dtype: str, loss_scale: str
) -> tuple[Precision, nn.Module, Optimizer]:
    """The precision of `--amp off|torch|apex` with the network and optimizer to train (apex replaces both).

    `torch` is told to the network as well: what it computes in half precision it knows best.
    """
    if amp == "torch":
        network.amp_dtype, scales = precision_of(device, amp_dtype or None)
        return TorchPrecision(device, scales, loss_scale), network, optimizer
    if amp == "apex":
        apex = ApexPrecision(import_apex_amp(), network, optimizer, loss_scale)
        return apex, apex.network, apex.optimizer
    return FullPrecision(), network, optimizer
