"""Create Adam from torch or from the package of the device, set its learning rate, and count its steps."""

import inspect
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from model.devices.device import adam_options, class_of, kind_of


class Adam(torch.optim.Adam):
    """torch's Adam without the import of torch's compiler, which takes 1.3 s and is not needed here.

    The methods are torch's methods without the wrappers that import the compiler.
    """

    add_param_group, load_state_dict, state_dict, zero_grad = (
        inspect.unwrap(getattr(torch.optim.Adam, name))
        for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    )
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


def make_adam(
    parameters: Iterable[nn.Parameter], lr: float, device: torch.device, reference: bool = False, fixed: bool = True
) -> Optimizer:
    """Return an Adam optimizer: the implementation of the device if there is one, otherwise torch's.

    Each implementation can load the state of the other implementation. The implementation of a device holds references
    to the first gradients that it sees. These gradients may be zeroed but not dropped, so call `zero_grad()` without
    arguments, which does what each implementation allows.

    Args:
        reference: whether to use torch's implementation on every device.
        fixed: whether the learning rate never changes. Otherwise it is a tensor on devices with CUDA graphs, because
            the replay of a graph cannot change a number.
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

    torch's Adam saves them as tensors, and NpuFusedAdam saves them as numbers. In each step, NpuFusedAdam increments
    the count of the first weight and a second count, which it copied from the first weight. If the count is a tensor,
    the copy is the same tensor, which then grows by two per step.
    """
    for state in optimizer.state.values():
        state["step"] = int(state["step"])


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate. If it is a tensor, fill this tensor, because CUDA graphs read the rate from its memory."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def steps_taken(optimizer: Optimizer) -> int:
    """Return the number of steps that changed the weights. Steps that a loss scaler skipped do not count."""
    state = optimizer.state.get(optimizer.param_groups[0]["params"][0], {})
    return int(state.get("step", 0))
