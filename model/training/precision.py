"""Backward pass and optimizer step in full precision, in torch's mixed precision, or with apex."""

import importlib
import importlib.util
from functools import partial
from importlib import metadata
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.common.errors import UsageError, first_line
from model.devices.device import class_of, kind_of
from model.network.compute_mode import ComputeMode

USE_TORCH = "use --amp torch, which takes the same --loss_scale"
APEX_ADVICE = (
    f"{USE_TORCH}, or build apex from source (for an NPU, the version patched by Ascend); the package named apex in "
    "the Python package index is unrelated"
)


class Precision:
    """Backward pass and optimizer step with a GradScaler, which is disabled if gradients need no scale, as in float32.

    If the package of the device has a scaler, it replaces torch's scaler. An Ascend 910 or 310P saturates on overflow,
    maps NaN to 0 and sets an overflow flag. torch's scaler looks for infinite gradients, so it would never find an
    overflow there and would double its scale forever. torch_npu's scaler reads the flag and synchronizes it between the
    processes.

    Args:
        scales: whether the scaler is enabled.
        loss_scale: `dynamic`, or a number for a static scale.
    """

    def __init__(self, device: torch.device, scales: bool = False, loss_scale: str = "dynamic"):
        self.static = None if loss_scale == "dynamic" else float(loss_scale)
        scaler = (class_of(kind_of(device).scaler) if scales else None) or partial(torch.amp.GradScaler, device.type)
        self.scaler = scaler(init_scale=self.static or 65536.0, enabled=scales)

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        """Compute the gradients of `loss`, multiplied by the loss scale."""
        self.scaler.scale(loss).backward()

    def step(self, optimizer: Optimizer) -> None:
        """Take one optimizer step. An enabled scaler skips the step if a gradient is not finite."""
        self.scaler.step(optimizer)
        # torch's scaler has no option for a static scale, and torch_npu's static mode ignores overflows. Setting the
        # scale in each update keeps it constant, and steps with infinite gradients are still skipped.
        self.scaler.update(self.static)

    def sync_master_weights(self) -> None:
        """Copy the weights of the network to the master weights, which only apex has.

        Call this method after loading the weights of the network and before loading the state of the optimizer.
        """

    def state_dict(self) -> dict:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Load the result of `state_dict`."""
        if state:
            self.scaler.load_state_dict({"dynamic": True, **state})  # torch_npu reads a key that torch does not save


class ApexPrecision(Precision):
    """Mixed precision of apex at its optimization level O2, as in the NPU port, which used a static scale of 32.

    The network computes with float16 weights, and the optimizer updates float32 master weights. apex creates the master
    weights from the float16 weights when they are first used, and copies them back after each step. With a dynamic
    scale, apex skips steps with non-finite gradients. With a static scale, it takes these steps, so that the weights
    become non-finite and training ends.

    Resuming from a complete checkpoint is exact, because its state file holds the master weights, the scale and the
    number of steps since the scale last changed. Resuming from the encoder and optimizer files alone is not exact: the
    master weights start as the rounded weights of the network, and a dynamic scale starts at its initial value. A
    static scale comes from the configuration, like the learning rate.
    """

    def __init__(self, amp: ModuleType, network: nn.Module, optimizer: Optimizer, loss_scale: str):
        self.amp, self.dynamic = amp, loss_scale == "dynamic"
        scale = loss_scale if self.dynamic else float(loss_scale)
        device = next(network.parameters()).device
        if device.type == "cpu":
            raise UsageError("--amp apex: apex needs an NPU or GPU, but the device is cpu; use --amp torch or off")
        try:
            self.network, self.optimizer = amp.initialize(network, optimizer, opt_level="O2", loss_scale=scale)
        except ImportError as error:  # a dynamic scale needs a compiled part of Ascend's apex, which is optional
            raise UsageError(
                f"--amp apex --loss_scale {loss_scale}: the installed apex cannot detect overflows "
                f"({first_line(error)}); give a static scale such as --loss_scale 32, use --amp torch, or build apex "
                "with --npu_float_status"
            ) from error
        except RuntimeError as error:  # NVIDIA's apex refuses an NPU, and Ascend's apex refuses a GPU
            problem = f"the installed apex does not support a network on {device} ({first_line(error)})"
            raise UsageError(f"--amp apex: {problem}; {APEX_ADVICE}") from error

    def backward(self, loss: Tensor, optimizer: Optimizer) -> None:
        with self.amp.scale_loss(loss, optimizer) as scaled:
            scaled.backward()

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    @torch.no_grad()
    def sync_master_weights(self) -> None:
        """Copy the loaded weights to the master weights, which are created if they do not exist yet.

        Otherwise apex would overwrite the loaded weights with the old master weights. In addition, the state of the
        optimizer would be loaded as float16, in which squares of gradients are rounded to zero.
        """
        for master, weight in zip(self._masters(), self.network.parameters(), strict=True):
            master.copy_(weight)

    def _masters(self) -> list[Tensor]:
        self.optimizer.zero_grad()  # creates the master weights if they do not exist yet
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


def import_apex_amp() -> ModuleType:
    """Return `apex.amp`. Raise UsageError with one line that names the installed package, if any."""
    reason, advice = "apex is not installed", APEX_ADVICE
    if importlib.util.find_spec("apex") is not None:
        try:
            amp = importlib.import_module("apex.amp")
        except Exception as error:  # of any type: the unrelated package imports a web framework, apex its extensions
            reason = _explain(error)
            if _is_too_old(error):
                advice = USE_TORCH
        else:
            if hasattr(amp, "initialize"):
                return amp
            reason = "the installed apex has no amp.initialize"
    raise UsageError(f"--amp apex: {reason}; {advice}")


def _is_too_old(error: Exception) -> bool:
    """Return whether apex failed to import a part of torch that this torch no longer has, such as torch._six."""
    return isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "torch"


def _explain(error: Exception) -> str:
    """Return why `apex.amp` cannot be imported. The metadata and the error identify the installed package."""
    try:
        fields = dict(metadata.metadata("apex").items())
    except metadata.PackageNotFoundError:  # a folder named apex on the import path, which has no metadata
        fields = {}
    name = f"apex {fields['Version']}" if fields.get("Version") else "apex"
    missing = getattr(error, "name", None) or ""
    if "yramid" in fields.get("Summary", "") or missing.startswith("pyramid"):
        return f"the installed {name} is the unrelated package of the Python package index, a toolkit for web sites"
    if _is_too_old(error):
        return f"the installed {name} is made for an older torch than {torch.__version__} ({first_line(error)})"
    if isinstance(error, ModuleNotFoundError) and missing == "apex.amp":
        reason = ": NVIDIA removed it in 2025" if importlib.util.find_spec("apex.normalization") else ""
        return f"the installed {name} has no amp{reason}"
    return f"apex.amp of the installed {name} cannot be loaded ({first_line(error)})"


def make_precision(
    mode: ComputeMode, network: nn.Module, optimizer: Optimizer, device: torch.device, loss_scale: str
) -> tuple[Precision, nn.Module, Optimizer]:
    """Return the precision, the network and the optimizer. apex replaces the given network and optimizer."""
    if mode.amp == "apex":
        apex = ApexPrecision(import_apex_amp(), network, optimizer, loss_scale)
        return apex, apex.network, apex.optimizer
    scales = mode.amp == "torch" and (mode.needs_loss_scale or loss_scale != "dynamic")
    return Precision(device, scales, loss_scale), network, optimizer
