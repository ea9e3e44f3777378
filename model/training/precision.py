"""Mixed precision: off, torch's own, or apex as the NPU port uses it."""

from __future__ import annotations

import importlib
import importlib.util
from functools import partial
from importlib import metadata
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.common.errors import UsageError
from model.devices.device import class_of, kind_of, precision_of


class Precision(Protocol):
    """How one training step runs in the chosen precision."""

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        """Gradients of `loss`, scaled where the precision needs that."""

    def step(self, optimizer: Optimizer) -> None:
        """One step, or none where a gradient is not finite and the precision can try another scale."""

    def weights_loaded(self) -> None:
        """The network got other weights from outside; to be called before the optimizer's state is loaded."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


class FullPrecision:
    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        loss.backward()

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    def weights_loaded(self) -> None:
        pass

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


class TorchPrecision:
    """A GradScaler beside a network that computes in half precision, where that needs one or a scale is asked for.

    loss_scale: `dynamic`, or a number that stays.

    The scaler is the device's own where it has one. An Ascend 910 or 310P makes the largest number of what overflows
    and 0 of what is no number, and tells in a flag: torch's scaler, which looks for infinite gradients, would see none
    and double its scale for ever. torch_npu's reads the flag, and has the processes agree on it.
    """

    def __init__(self, device: torch.device, scales: bool, loss_scale: str):
        self.static = None if loss_scale == "dynamic" else float(loss_scale)
        own = class_of(kind_of(device).scaler) or partial(torch.amp.GradScaler, device.type)
        self.scaler = own(init_scale=self.static or 65536.0, enabled=scales)

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        self.scaler.scale(loss).backward()

    def step(self, optimizer: Optimizer) -> None:
        self.scaler.step(optimizer)
        # torch's has no switch for a scale that stays, and with torch_npu's nobody looks for overflow; told a new
        # scale each time, they keep to it and still leave out steps with infinite gradients.
        self.scaler.update(self.static)

    def weights_loaded(self) -> None:
        pass

    def state_dict(self) -> dict:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        if state:
            self.scaler.load_state_dict({"dynamic": True, **state})  # torch_npu's has that beside what torch's has


class ApexPrecision:
    """`amp.initialize` at O2 and `amp.scale_loss`, the calls of the NPU port (which used a static scale of 32).

    The network computes with float16 weights; the optimizer steps float32 master weights, which apex makes from them
    when it is first used and copies back after each step. With a dynamic scale apex leaves out steps with gradients
    that are not finite; with a static one it does not, so that those end training.

    Resuming is exact from a checkpoint of ours: its state has the master weights beside the scale and the count of
    steps since it last changed. From the two published files alone it is not: the master weights then begin as the
    network's rounded ones, and a dynamic scale begins anew. The config decides on a static scale, as on the rate.
    """

    def __init__(self, amp: ModuleType, network: nn.Module, optimizer: Optimizer, loss_scale: str):
        self.amp, self.dynamic = amp, loss_scale == "dynamic"
        scale = loss_scale if self.dynamic else float(loss_scale)
        device = next(network.parameters()).device
        if device.type == "cpu":
            raise UsageError("--amp apex: apex computes on an NPU or GPU and this is the cpu; use --amp torch or off")
        try:
            self.network, self.optimizer = amp.initialize(network, optimizer, opt_level="O2", loss_scale=scale)
        except RuntimeError as error:  # NVIDIA's wants another device than Ascend's
            raise UsageError(
                f"--amp apex: this apex does not take a network on {device} ({str(error).splitlines()[0]}); {ADVICE}"
            ) from error

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        with self.amp.scale_loss(loss, optimizer) as scaled:
            scaled.backward()

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    @torch.no_grad()
    def weights_loaded(self) -> None:
        """Without this apex would write its old master weights over the loaded ones, and the optimizer's state would
        be loaded for float16 weights, where squares of gradients are all zero."""
        for master, weight in zip(self._masters(), self.network.parameters(), strict=True):
            master.copy_(weight)

    def _masters(self) -> list[Tensor]:
        self.optimizer.zero_grad()  # makes them, if nothing else has
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    def state_dict(self) -> dict:
        return {"amp": dict(self.amp.state_dict()), "masters": [weight.detach() for weight in self._masters()]}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        if "masters" not in state:
            return
        for master, saved in zip(self._masters(), state["masters"], strict=True):
            master.copy_(saved)
        if self.dynamic:
            self.amp.load_state_dict(state["amp"])


ADVICE = (
    "use --amp torch, which takes the same --loss_scale, or build apex from source: Ascend's patched one for an NPU; "
    "what the package index has under that name is something else"
)


def import_apex_amp() -> ModuleType:
    """`apex.amp`. Raises UsageError with a line that says which package of that name is there, if any is."""
    fault = "apex is not installed"
    if importlib.util.find_spec("apex") is not None:
        try:
            amp = importlib.import_module("apex.amp")
        except Exception as error:  # the wrong package imports a web framework, the right one compiled parts
            fault = _fault_of_apex(error)
        else:
            if hasattr(amp, "initialize"):
                return amp
            fault = "the apex found here has no amp.initialize"
    raise UsageError(f"--amp apex: {fault}; {ADVICE}")


def _fault_of_apex(error: Exception) -> str:
    """Tells the packages of that name apart by what they say of themselves and by what importing them raised."""
    try:
        facts = dict(metadata.metadata("apex").items())
    except metadata.PackageNotFoundError:  # imported from a folder
        facts = {}
    version = facts.get("Version", "")
    missing = getattr(error, "name", None) or ""
    if "yramid" in facts.get("Summary", "") or missing.startswith("pyramid"):
        return f"the apex {version} found here is the package index's, a kit for web sites".replace("  ", " ")
    if isinstance(error, ModuleNotFoundError) and missing == "apex.amp":
        whose = "NVIDIA's of after May 2025" if importlib.util.find_spec("apex.normalization") else "one"
        return f"the apex {version} found here is {whose} without amp".replace("  ", " ")
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return f"apex.amp {version} cannot be loaded ({first})".replace("  ", " ")


def make_precision(
    amp: str, network: nn.Module, optimizer: Optimizer, device: torch.device, amp_dtype: str, loss_scale: str
) -> tuple[Precision, nn.Module, Optimizer]:
    """The precision of `--amp off|torch|apex` with the network and optimizer to train (apex replaces both).

    `torch` is told to the network as well: what it computes in half precision it knows best.
    """
    if amp == "torch":
        network.amp_dtype, scales = precision_of(device, amp_dtype or None)
        return TorchPrecision(device, scales or loss_scale != "dynamic", loss_scale), network, optimizer
    if amp == "apex":
        if amp_dtype == "bf16":
            raise UsageError("--amp apex computes in fp16: --amp_dtype bf16 goes with --amp torch")
        apex = ApexPrecision(import_apex_amp(), network, optimizer, loss_scale)
        return apex, apex.network, apex.optimizer
    return FullPrecision(), network, optimizer
