"""The functions initialize, scale_loss, state_dict and load_state_dict of `amp` in Ascend's patched apex, at level O2.

At level O2, the weights of the model become float16, and its outputs become float32. The optimizer has float32 master
weights, which are created from the float16 weights at its first use (`zero_grad`, or `scale_loss` before a backward
pass). Each step copies the master weights to the float16 weights. The `zero_grad` of the optimizer takes no arguments.

If gradients overflow, a dynamic scale is halved and the step is skipped. The real apex also doubles a dynamic scale
after 2000 steps without overflow. With a static scale, no step is skipped. On chips without infinity, a flag of the
device signals overflow.
"""

import importlib
from contextlib import contextmanager
from types import MethodType, SimpleNamespace

import torch

_state = SimpleNamespace(scaler=None)


class LossScaler:
    def __init__(self, loss_scale):
        self.dynamic = loss_scale == "dynamic"
        # setup.py builds this module only with --npu_float_status. It is needed to detect overflow.
        self.float_status = importlib.import_module("npu_float_status") if self.dynamic else None
        self.scale = 2.0**16 if self.dynamic else float(loss_scale)
        self.unskipped = 0

    def update(self, overflow: bool) -> bool:
        """Update the scale after a step, and return whether the step must be skipped."""
        if overflow and self.dynamic:
            self.scale /= 2
            self.unskipped = 0
            return True
        self.unskipped += 1
        return False


def initialize(models, optimizers=None, enabled=True, opt_level="O1", loss_scale=None, verbosity=1, **others):
    if opt_level != "O2" or others or not enabled:
        raise RuntimeError("the stand-in supports only opt_level O2")
    if isinstance(models, torch.nn.parallel.DistributedDataParallel):
        raise RuntimeError("Parallel wrappers should only be applied to the model(s) AFTER \namp.initialize.")
    for name, parameter in models.named_parameters():
        if "npu" not in parameter.type() or "Half" in parameter.type():
            raise RuntimeError(
                f"Found param {name} with type {parameter.type()}, expected torch.npu.FloatTensor.\nWhen using "
                "amp.initialize, you need to provide a model with parameters\nlocated on a Npu device"
            )
    models.to(torch.float16)
    models.forward = _in_half(models.forward)
    optimizers.load_state_dict(optimizers.state_dict())
    _process(optimizers)
    _state.scaler = LossScaler("dynamic" if loss_scale is None else loss_scale)
    if verbosity:
        print(f"Selected optimization level {opt_level}")
    return models, optimizers


def _in_half(forward):
    def cast(value, dtype):
        return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    def run(*arguments, **keywords):
        arguments = [cast(argument, torch.float16) for argument in arguments]
        keywords = {key: cast(value, torch.float16) for key, value in keywords.items()}
        return cast(forward(*arguments, **keywords), torch.float32)

    return run


def _process(optimizer) -> None:
    if hasattr(optimizer, "_amp_stash"):
        raise RuntimeError("A given optimizer should only be passed through amp.initialize once.")
    optimizer._amp_stash = SimpleNamespace(pairs=None)
    plain_step = optimizer.step

    def zero_grad(self):
        for half, master in _pairs(self):
            if half.grad is not None:
                half.grad.detach_()
                half.grad.zero_()
            master.grad = None

    def step(self, closure=None):
        if closure is not None:
            raise RuntimeError("Currently, Amp does not support closure use with optimizers.")
        plain_step()
        for half, master in _pairs(self):
            half.data.copy_(master.data)
            master.grad = None

    optimizer.zero_grad = MethodType(zero_grad, optimizer)
    optimizer.step = MethodType(step, optimizer)


def _pairs(optimizer):
    """Return pairs of float16 weights and their float32 master weights. The first call creates the master weights."""
    stash = optimizer._amp_stash
    if stash.pairs is None:
        stash.pairs = []
        for group in optimizer.param_groups:
            for position, half in enumerate(group["params"]):
                if half.type() != "torch.npu.HalfTensor":
                    raise TypeError(f"Optimizer's parameters must be torch.npu.HalfTensor. Received {half.type()}")
                master = half.detach().clone().float().requires_grad_()
                group["params"][position] = master
                if half in optimizer.state:
                    optimizer.state[master] = optimizer.state.pop(half)
                stash.pairs.append((half, master))
        optimizer.load_state_dict(optimizer.state_dict())  # converts the state to float32
    return stash.pairs


@contextmanager
def scale_loss(loss, optimizers):
    optimizer, scaler = optimizers, _state.scaler
    for half, _ in _pairs(optimizer):
        half.grad = None
    if scaler.dynamic:
        scaler.float_status.RunClearFloatStatusOp()
    yield loss.float() * scaler.scale
    overflow = scaler.dynamic and scaler.float_status.RunGetFloatStatusOp()
    for half, master in _pairs(optimizer):
        if half.grad is not None:
            master.grad = half.grad.float() / scaler.scale
            overflow = overflow or not bool(half.grad.isfinite().all())
    if scaler.update(overflow):
        _skip_next_step(optimizer, scaler)


def _skip_next_step(optimizer, scaler) -> None:
    step = optimizer.step

    def skip(closure=None):
        print(f"Gradient overflow.  Skipping step, loss scaler 0 reducing loss scale to {scaler.scale}")
        for _, master in _pairs(optimizer):
            master.grad = None
        optimizer.step = step

    optimizer.step = skip


def state_dict(destination=None):
    return {"loss_scaler0": {"loss_scale": _state.scaler.scale, "unskipped": _state.scaler.unskipped}}


def load_state_dict(state) -> None:
    _state.scaler.scale = state["loss_scaler0"]["loss_scale"]
    _state.scaler.unskipped = state["loss_scaler0"]["unskipped"]
