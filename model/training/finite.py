"""Detection of NaN and infinity during training."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from model.common.errors import UserError


class NonFiniteError(UserError):
    """A loss, weight, optimizer state or embedding is NaN or infinite."""


def all_finite(values: Any) -> bool:
    """Return whether all floating point tensors in nested `values` are finite. Synchronizes with the device once."""
    flags = [tensor.isfinite().all() for tensor in _tensors_in(values) if tensor.is_floating_point()]
    return not flags or bool(torch.stack([flag.to(flags[0].device) for flag in flags]).all())


def _tensors_in(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from _tensors_in(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors_in(value)


def map_tensors(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return nested `values` with `function` applied to each detached tensor."""
    if isinstance(values, Tensor):
        return function(values.detach())
    if isinstance(values, Mapping):
        return {key: map_tensors(value, function) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(map_tensors(value, function) for value in values)
    return values
