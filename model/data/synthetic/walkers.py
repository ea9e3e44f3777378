"""Silhouettes of synthetic walkers: what a subject, a take and a view determine, and nothing else does.

A body and its gait come from (seed, subject), clothes and mood of the day from (seed, subject, take), the
faults of segmentation from (seed, subject, take, view). All views of a take show the same walk, seen at the
same time by eleven cameras, as in CASIA-B. Any part of the data is therefore the same alone and within the
whole.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.data.synthetic.body import Body, draw_body
from model.data.synthetic.camera import PATH, VIEWS, camera_of, frame_times
from model.data.synthetic.clothing import Outfit, draw_outfit, put_on_coat, take_bag, vary_outfit
from model.data.synthetic.figure import Figure
from model.data.synthetic.flesh import dress
from model.data.synthetic.gait import Gait, draw_gait, vary_gait
from model.data.synthetic.noise import draw_faults
from model.data.synthetic.render import silhouettes
from model.data.synthetic.skeleton import walk

CONDITIONS = {"nm": 6, "bg": 2, "cl": 2}  # takes of each
SEQ_TYPES = tuple(f"{name}-{take:02d}" for name, takes in CONDITIONS.items() for take in range(1, takes + 1))
_BODY, _GAIT, _CLOTHES, _TAKE, _FAULTS = range(5)  # independent random streams


def _stream(seed: int, subject: int, purpose: int, *more: int) -> np.random.Generator:
    return np.random.default_rng([seed, subject, purpose, *more])


def _take_numbers(seq_type: str) -> tuple[int, int]:
    if seq_type not in SEQ_TYPES:
        raise ValueError(f"seq_type {seq_type!r} is none of {', '.join(SEQ_TYPES)}")
    name, take = seq_type.split("-")
    return list(CONDITIONS).index(name), int(take)


def draw_take(seed: int, subject: int, seq_type: str) -> tuple[Body, Gait, Outfit]:
    """Who walks in one take, how, and in what.

    Raises ValueError when `seq_type` is none of `SEQ_TYPES`, `subject` is below 1 or `seed` below 0.
    """
    if subject < 1 or seed < 0:
        raise ValueError(f"need subject >= 1 and seed >= 0, not {subject} and {seed}")
    take = _stream(seed, subject, _TAKE, *_take_numbers(seq_type))
    body = draw_body(_stream(seed, subject, _BODY))
    gait = vary_gait(take, draw_gait(_stream(seed, subject, _GAIT), body))
    outfit = vary_outfit(take, draw_outfit(_stream(seed, subject, _CLOTHES), body))
    if seq_type.startswith("cl"):
        outfit = put_on_coat(take, outfit)
    elif seq_type.startswith("bg"):
        outfit, gait = take_bag(take, outfit, gait)
    return body, gait, outfit


def walking_figure(seed: int, subject: int, seq_type: str, frames: int, device: torch.device | str = "cpu") -> Figure:
    """The subject's figure in every frame of one take, before any camera sees it."""
    if frames < 1:
        raise ValueError(f"need frames >= 1, not {frames}")
    body, gait, outfit = draw_take(seed, subject, seq_type)
    return dress(body, outfit, walk(body, gait, frame_times(frames, device), PATH))


def photograph(figure: Figure, seed: int, subject: int, seq_type: str, view: str, noise: float = 1.0) -> Tensor:
    """Silhouettes [frames, 240, 320] uint8 (0, 255) of a `walking_figure` from one view, faults included."""
    frames, ellipsoids = figure.centres.shape[:2]
    rng = _stream(seed, subject, _FAULTS, *_take_numbers(seq_type), int(view))
    faults = draw_faults(rng, frames, ellipsoids, noise, figure.centres.device)
    return silhouettes(figure, camera_of(view), faults)


def render_sequence(
    seed: int,
    subject: int,
    seq_type: str,
    view: str,
    frames: int,
    noise: float = 1.0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Raw silhouettes of one sequence: uint8 [frames, 240, 320] on `device`, 255 on the person, 25 frames/s.

    subject   numbered from 1; the same number is the same person in every take and view of one `seed`
    seq_type  `nm-01` .. `nm-06`, `bg-01`, `bg-02`, `cl-01`, `cl-02`
    view      `000` .. `180` in steps of 18 degrees
    noise     strength of the segmentation faults, 0 for none

    Raises ValueError for anything else.
    """
    if view not in VIEWS:
        raise ValueError(f"view {view!r} is none of {', '.join(VIEWS)}")
    if noise < 0:
        raise ValueError(f"noise must not be negative, not {noise}")
    figure = walking_figure(seed, subject, seq_type, frames, device)
    return photograph(figure, seed, subject, seq_type, view, noise)
