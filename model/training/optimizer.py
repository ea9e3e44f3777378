"""Adam, torch's or the device's own, and how many steps it has taken."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from model.devices.device import adam_options, class_of, kind_of


def make_adam(parameters: Iterable[nn.Parameter], lr: float, device: torch.device, plain: bool = False) -> Optimizer:
    """Adam; unless `plain`, the device's own where it has one, which steps all weights in one piece of memory.

    The state of either can be loaded into the other. The device's own keeps to the gradients it has once seen: they
    may be zeroed, not dropped. So call `zero_grad()` without arguments, which does what each optimizer allows.
    """
    own = None if plain else class_of(kind_of(device).adam)
    if own is None:
        return torch.optim.Adam(parameters, lr=lr, **adam_options(device))
    optimizer = own(parameters, lr=lr)
    optimizer.register_load_state_dict_post_hook(_steps_as_numbers)
    return optimizer


def _steps_as_numbers(optimizer: Optimizer) -> None:
    """torch's Adam saves its steps as tensors. NpuFusedAdam adds one to the first weight's and then to that of all
    weights, which it has taken from the first: right for numbers, as it saves them, but one tensor grows by two."""
    for state in optimizer.state.values():
        state["step"] = int(state["step"])


def steps_taken(optimizer: Optimizer) -> int:
    """Steps that changed the weights. A loss scaler leaves out those with gradients that are not finite."""
    state = optimizer.state.get(optimizer.param_groups[0]["params"][0], {})
    return int(state.get("step", 0))
