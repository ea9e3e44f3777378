"""Draw random numbers for synthetic walkers, name the tensors of their parameters, and render single sequences."""

import torch

from model.common.counter_random import Draws
from model.synthetic.settings import WalkerSettings
from model.synthetic.walkers import Takes, pose_figures, render_views

PEOPLE = 12000


def people(count: int, purpose: str = "subject") -> Draws:
    return Draws.of(5, purpose, torch.arange(1, count + 1))


def tensors(of, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return all tensors in nested named tuples, dictionaries and sequences, by the path of keys to each tensor."""
    if isinstance(of, torch.Tensor):
        return {prefix: of}
    of = of._asdict() if hasattr(of, "_asdict") else of
    items = of.items() if isinstance(of, dict) else enumerate(of)
    return {name: value for key, part in items for name, value in tensors(part, f"{prefix}.{key}").items()}


def render_sequence(settings: WalkerSettings, subject: int, seq_type: str, view: str) -> torch.Tensor:
    """Return the raw silhouettes of one sequence: uint8 [frames, 240, 320], 255 for the person."""
    takes = Takes.of([subject], [seq_type])
    return render_views(settings, takes, pose_figures(settings, takes), [view]).frames()
