"""Adam, from torch or from the device's own package, and the number of steps that it has taken."""

import inspect
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from model.devices.device import adam_options, class_of, kind_of


class Adam(torch.optim.Adam):
    """torch's Adam without the import of torch's compiler, which takes 1.3 s and is not needed here.

    The methods are those of torch without the wrappers that import the compiler.
    """

    add_param_group, load_state_dict, state_dict, zero_grad = (
        inspect.unwrap(getattr(torch.optim.Adam, name))
        for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    )
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


def make_adam(
    parameters: Iterable[nn.Parameter], lr: float, device: torch.device, reference: bool = False, fixed: bool = True
) -> Optimizer:
    """Return Adam. Unless `reference`, use the implementation of the device if it has one.

    A CUDA graph keeps a learning rate that is a number. If it is not `fixed`, it becomes a tensor on such devices.

    The state of either can be loaded into the other. The device's implementation holds references to the first
    gradients that it sees, so these may be zeroed but not dropped: call `zero_grad()` without arguments, which does
    what each optimizer allows.
    """
    device_adam = None if reference else class_of(kind_of(device).adam)
    if device_adam is None:
        options = adam_options(device)
        rate = lr if fixed or not options else torch.tensor(lr, device=device)
        return Adam(parameters, lr=rate, **options)
    optimizer = device_adam(parameters, lr=lr)
    optimizer.register_load_state_dict_post_hook(_steps_as_numbers)
    return optimizer


def _steps_as_numbers(optimizer: Optimizer) -> None:
    """Convert the step counts of a loaded state to numbers.

    torch's Adam saves them as tensors. NpuFusedAdam increments the count of the first weight and a second count that
    it took from it. With numbers, as it saves them itself, both are right; one shared tensor would grow by two.
    """
    for state in optimizer.state.values():
        state["step"] = int(state["step"])


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate. A tensor keeps its memory, from which CUDA graphs read it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def steps_taken(optimizer: Optimizer) -> int:
    """Return the number of steps that changed the weights. A loss scaler skips steps with non-finite gradients."""
    state = optimizer.state.get(optimizer.param_groups[0]["params"][0], {})
    return int(state.get("step", 0))
