"""Render the silhouettes of synthetic walkers, which the settings, the subject, the take and the view determine.

Random numbers of body and gait depend on seed and subject. Random numbers of clothes and posture depend on seed,
subject and take. Random numbers of the segmentation noise depend on seed, subject, take and view. Therefore each part
of a data set is the same when it is made alone. All views of a take show the same walk at the same time, as in CASIA-B.

Shapes: b takes, c views, s frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.counter_random import Draws
from model.synthetic.body import draw_body
from model.synthetic.camera import PATH, VIEWS, cameras_of, frame_times
from model.synthetic.clothing import add_coats, draw_outfit, spread_arms, vary_outfit
from model.synthetic.figure import Figure
from model.synthetic.flesh import build_figure
from model.synthetic.gait import draw_gait, vary_gait
from model.synthetic.luggage import draw_bags
from model.synthetic.render import Crops, silhouettes
from model.synthetic.segmentation import MARGIN, degrade
from model.synthetic.settings import SEQ_TYPES, WalkerSettings
from model.synthetic.skeleton import pose

USUAL_NOISE = 0.7  # fraction of takes whose noise patches depend only on subject, clothes and view, not on the take


@dataclass(frozen=True)
class Takes:
    """A batch of takes.

    subject     int64 [b], number of the subject, from 1
    take        int64 [b], index into SEQ_TYPES
    """

    subject: Tensor
    take: Tensor

    @staticmethod
    def of(subjects: Sequence[int], seq_types: Sequence[str]) -> "Takes":
        """Return every subject in every take, sorted by subject."""
        takes = torch.tensor([SEQ_TYPES.index(seq_type) for seq_type in seq_types])
        numbers = torch.tensor(list(subjects))
        return Takes(numbers.repeat_interleave(len(takes)), takes.repeat(len(numbers)))

    def draws(self, seed: int, purpose: str) -> Draws:
        return Draws.of(seed, purpose, self.subject, self.take)

    def in_condition(self, condition: str) -> Tensor:
        """Return whether each take belongs to `condition` (`nm`, `bg` or `cl`), bool [b]."""
        numbers = [i for i, seq_type in enumerate(SEQ_TYPES) if seq_type.startswith(condition)]
        return torch.isin(self.take, torch.tensor(numbers, device=self.take.device))

    def __getitem__(self, part: slice) -> "Takes":
        return Takes(self.subject[part], self.take[part])

    def __len__(self) -> int:
        return len(self.subject)


def pose_figures(settings: WalkerSettings, takes: Takes) -> Figure:
    """Return the figures of the subjects in every frame of the takes."""
    subject, take = Draws.of(settings.seed, "subject", takes.subject), takes.draws(settings.seed, "take")
    body = draw_body(subject, settings.bodies)
    gait = vary_gait(take, draw_gait(subject, body, settings.gaits))
    outfit = vary_outfit(take, draw_outfit(subject, body))
    outfit = add_coats(take, outfit, takes.in_condition("cl"))
    bag, gait = draw_bags(take, spread_arms(gait, outfit), takes.in_condition("bg"))
    times = frame_times(settings.frames, takes.subject.device)
    return build_figure(body, outfit, bag, pose(body, gait, times, PATH))


def render_views(settings: WalkerSettings, takes: Takes, figure: Figure, views: Sequence[str]) -> Crops:
    """Return the silhouettes of a figure from `pose_figures`: b·c·s frames, sorted by take, view and time."""
    cameras = cameras_of(views, takes.draws(settings.seed, "take"), settings.cameras)
    clean = silhouettes(figure, cameras, MARGIN if settings.noise else 0)
    if not settings.noise:
        return clean
    # Subject, take and view of each sequence.
    subject, number = (x.repeat_interleave(len(views)) for x in (takes.subject, takes.take))
    coated = takes.in_condition("cl").long().repeat_interleave(len(views))
    view = torch.tensor([VIEWS.index(view) for view in views], device=subject.device).repeat(len(takes))
    # Noise depends on the clothes and on the background. It is therefore mostly the same in all takes in which a
    # subject wears the same clothes in front of the same camera.
    draws = Draws.of(settings.seed, "faults", subject, number, view)
    usual = Draws.of(settings.seed, "place", subject, coated, view).keys
    place = Draws(torch.where(draws.chance("as usual", USUAL_NOISE), usual, draws.keys))
    clothes = Draws.of(settings.seed, "clothes", subject, coated)
    shape = (len(subject), settings.frames)
    masks, box = clean.masks.unflatten(0, shape), clean.box.unflatten(0, shape)
    degraded = degrade(masks, box, draws, settings.noise, clothes, place)
    return clean.within_frame(degraded.flatten(0, 1))
