"""Drawn parameters of synthetic walkers."""

from dataclasses import is_dataclass

import torch

from model.common.counter_random import Draws

PEOPLE = 12000


def people(count: int, purpose: str = "subject") -> Draws:
    return Draws.of(5, purpose, torch.arange(1, count + 1))


def tensors(of, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return all tensors of nested dataclasses, dictionaries and pairs by name."""
    if isinstance(of, torch.Tensor):
        return {prefix: of}
    if is_dataclass(of):
        of = vars(of)
    items = of.items() if isinstance(of, dict) else enumerate(of)
    return {name: value for key, part in items for name, value in tensors(part, f"{prefix}.{key}").items()}
