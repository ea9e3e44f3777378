"""The last state of a training run in which everything was a finite number, until the next one is known to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from model.common.errors import UserError


class BadNumbers(UserError):  # noqa: N818, named for what it is about
    """A loss, weight, state of the optimizer or embedding that is no finite number."""


class LastGood:
    """Holds a copy where the tensors are: 32 MB for the network and Adam's state at hidden_dim 256."""

    def __init__(self) -> None:
        self.iteration: int | None = None
        self.parts: Any = None

    def keep(self, iteration: int, parts: Mapping[str, Any]) -> None:
        self.iteration, self.parts = iteration, copied(parts, Tensor.clone)

    def explained(self, error: BadNumbers, saved_at: int | None) -> BadNumbers:
        """The error with where to go on. saved_at: the iteration of the last checkpoint but for this state's."""
        saved = [iteration for iteration in (self.iteration, saved_at) if iteration is not None]
        if not saved:
            return BadNumbers(f"{error}; nothing was saved before it: start again with {REMEDY}")
        return BadNumbers(f"{error}; the state of iteration {max(saved)} is saved: --restore_iter -1 with {REMEDY}")


REMEDY = "a lower learning rate or --amp off"


def all_finite(values: Any) -> bool:
    """Whether all floating point tensors within are; one look at their device."""
    flags = [tensor.isfinite().all() for tensor in tensors_in(values) if tensor.is_floating_point()]
    return not flags or bool(torch.stack([flag.to(flags[0].device) for flag in flags]).all())


def tensors_in(values: Any) -> Iterable[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)


def copied(values: Any, copy: Any) -> Any:
    """The same with `copy` of each tensor in place of it."""
    if isinstance(values, Tensor):
        return copy(values.detach())
    if isinstance(values, Mapping):
        return {key: copied(value, copy) for key, value in values.items()}
    return type(values)(copied(value, copy) for value in values) if isinstance(values, list | tuple) else values
