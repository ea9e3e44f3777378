"""Detection of NaN and infinity during training, and the last state that was free of them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from model.common.errors import UserError

ADVICE = "a lower learning rate or --amp off"


class NonFiniteError(UserError):
    """A loss, weight, optimizer state or embedding is NaN or infinite."""


class LastGood:
    """A copy of the last finite state, on the device: 32 MB for the network and Adam's state at hidden_dim 256."""

    def __init__(self) -> None:
        self.iteration: int | None = None
        self.parts: Any = None

    def keep(self, iteration: int, parts: Mapping[str, Any]) -> None:
        self.iteration, self.parts = iteration, map_tensors(parts, Tensor.clone)

    def with_resume_hint(self, error: NonFiniteError, saved_at: int | None) -> NonFiniteError:
        """Append resume instructions.

        Args:
            saved_at: the newest checkpoint on disk, excluding this state.
        """
        saved = [iteration for iteration in (self.iteration, saved_at) if iteration is not None]
        if not saved:
            return NonFiniteError(f"{error}; nothing was saved before it: start again with {ADVICE}")
        return NonFiniteError(f"{error}; the state of iteration {max(saved)} is saved: --restore_iter -1 with {ADVICE}")


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
