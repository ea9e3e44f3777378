"""Silhouettes of synthetic walkers: what a subject, a take and a view determine, and nothing else does.

A body and its gait come from (seed, subject), clothes and mood of the day from (seed, subject, take), the faults of
segmentation from (seed, subject, take, view). All views of a take show the same walk, seen at the same time by eleven
cameras, as in CASIA-B. Any part of the data is therefore the same alone and within the whole.

b takes, c views, s frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic.body import draw_body
from model.synthetic.camera import PATH, VIEWS, cameras_of, frame_times
from model.synthetic.clothing import draw_outfit, make_room, put_on_coat, take_bag, vary_outfit
from model.synthetic.figure import Figure
from model.synthetic.flesh import dress
from model.synthetic.gait import draw_gait, vary_gait
from model.synthetic.render import Canvases, silhouettes
from model.synthetic.segmentation import MARGIN, spoil
from model.synthetic.skeleton import walk

CONDITIONS = {"nm": 6, "bg": 2, "cl": 2}  # takes of each
FAULTS_AS_USUAL = 0.7  # share of the takes
SEQ_TYPES = tuple(f"{name}-{take:02d}" for name, takes in CONDITIONS.items() for take in range(1, takes + 1))


@dataclass(frozen=True)
class World:
    """What all walkers of a data set have in common.

    seed       another seed, other people
    frames     of every sequence, at 25 frames/s
    noise      strength of the segmentation faults: 0 none, 1 as in CASIA-A
    cameras    0: CASIA-B's eleven, fixed; above: how far each take's cameras are from those
    bodies, gaits   how much people differ: 1 as people do, 0 not at all
    """

    seed: int = 0
    frames: int = 60
    noise: float = 1.0
    cameras: float = 0.0
    bodies: float = 1.0
    gaits: float = 1.0

    def __post_init__(self):
        if self.frames < 1:
            raise ValueError(f"need frames >= 1, not {self.frames}")
        for name in ("seed", "noise", "cameras", "bodies", "gaits"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")


@dataclass(frozen=True)
class Takes:
    """Takes of some subjects: `subject` int64 [b] from 1 on, `take` int64 [b] an index into SEQ_TYPES."""

    subject: Tensor
    take: Tensor

    @staticmethod
    def of(subjects: Sequence[int], seq_types: Sequence[str], device: torch.device | str = "cpu") -> Takes:
        """Every subject in every take, the takes of one subject together. Raises ValueError for what there is not."""
        if not subjects or min(subjects) < 1:
            raise ValueError(f"subjects are numbered from 1, not {min(subjects, default='none')}")
        unknown = [seq_type for seq_type in seq_types if seq_type not in SEQ_TYPES]
        if unknown:
            raise ValueError(f"seq_type {unknown[0]!r} is none of {', '.join(SEQ_TYPES)}")
        takes = torch.tensor([SEQ_TYPES.index(seq_type) for seq_type in seq_types], device=device)
        numbers = torch.tensor(list(subjects), device=device)
        return Takes(numbers.repeat_interleave(len(takes)), takes.repeat(len(numbers)))

    def draws(self, seed: int, purpose: str, *more: Tensor) -> Draws:
        return Draws.of(seed, purpose, self.subject, self.take, *more)

    def part(self, part: slice) -> Takes:
        return Takes(self.subject[part], self.take[part])

    def __len__(self) -> int:
        return len(self.subject)


def walking_figures(world: World, takes: Takes) -> Figure:
    """The subjects' figures in every frame of the takes, before any camera sees them."""
    subject, take = Draws.of(world.seed, "subject", takes.subject), takes.draws(world.seed, "take")
    bagged, coated = (_is(takes, condition) for condition in ("bg", "cl"))
    body = draw_body(subject, world.bodies)
    gait = vary_gait(take, draw_gait(subject, body, world.gaits))
    outfit = vary_outfit(take, draw_outfit(subject, body))
    outfit = put_on_coat(take, outfit, coated)
    outfit, gait = take_bag(take, outfit, make_room(gait, outfit), bagged)
    times = frame_times(world.frames, takes.subject.device)
    return dress(body, outfit, walk(body, gait, times, PATH))


def _is(takes: Takes, condition: str) -> Tensor:
    numbers = [i for i, seq_type in enumerate(SEQ_TYPES) if seq_type.startswith(condition)]
    return torch.isin(takes.take, torch.tensor(numbers, device=takes.take.device))


def photograph(world: World, takes: Takes, figure: Figure, views: Sequence[str]) -> Canvases:
    """What cameras see of `walking_figures`, faults included: b·c·s frames, a sequence's together, a take's views
    after one another."""
    take = takes.draws(world.seed, "take")
    clean = silhouettes(figure, cameras_of(views, take, world.cameras), MARGIN if world.noise else 0)
    if not world.noise:
        return clean
    subject, number = (x.repeat_interleave(len(views)) for x in (takes.subject, takes.take))
    coated = _is(takes, "cl").long().repeat_interleave(len(views))
    view = torch.tensor([VIEWS.index(view) for view in views], device=subject.device).repeat(len(takes))
    # What is mistaken for the background depends on the clothes and on what is behind them: mostly the same in all
    # takes of a subject in the same clothes before the same camera.
    draws = Draws.of(world.seed, "faults", subject, number, view)
    usual = Draws.of(world.seed, "place", subject, coated, view).keys
    place = Draws(torch.where(draws.chance("as usual", FAULTS_AS_USUAL), usual, draws.keys))
    clothes = Draws.of(world.seed, "clothes", subject, coated)
    shape = (len(subject), world.frames)
    spoilt = spoil(clean.masks.unflatten(0, shape), clean.box.unflatten(0, shape), draws, world.noise, clothes, place)
    return clean.within_frame(spoilt.flatten(0, 1))


def render_sequence(world: World, subject: int, seq_type: str, view: str, device: torch.device | str = "cpu") -> Tensor:
    """Raw silhouettes of one sequence: uint8 [frames, 240, 320] on `device`, 255 on the person, 25 frames/s.

    subject   numbered from 1; the same number is the same person in every take and view of one world
    seq_type  `nm-01` .. `nm-06`, `bg-01`, `bg-02`, `cl-01`, `cl-02`
    view      `000` .. `180` in steps of 18 degrees

    Raises ValueError for anything else.
    """
    takes = Takes.of([subject], [seq_type], device)
    return photograph(world, takes, walking_figures(world, takes), [view]).frames()
