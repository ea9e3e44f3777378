"""Draw previews of walkers: a contact sheet of subjects, takes and views, and an animation of the same people."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from model.common.moving_pictures import write_gif
from model.synthetic.camera import FPS, IMAGE_HEIGHT, IMAGE_WIDTH
from model.synthetic.settings import WalkerSettings
from model.synthetic.walkers import Takes, pose_figures, render_views

CELL_HEIGHT, CELL_WIDTH = 128, 76  # pixels per person
MAX_ANIMATED_VIEWS = 6


def contact_sheet(settings: WalkerSettings) -> Tensor:
    """Return a grey picture, uint8 [rows, columns]: one line of cells per subject and take, and two cells per view.

    The two cells show moments a quarter of a second apart, about half a step, so that the position of the legs differs.
    """
    middle = settings.frames // 2
    cells = _cells(settings, [max(middle - 3, 0), min(middle + 3, settings.frames - 1)])
    return cells.permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)


def animation(settings: WalkerSettings) -> Tensor:
    """Return grey pictures, uint8 [frames, rows, columns], with one line per subject and take, and one cell per view.

    At most MAX_ANIMATED_VIEWS evenly spaced views are shown.
    """
    step = -(-len(settings.views) // MAX_ANIMATED_VIEWS)
    cells = _cells(replace(settings, views=settings.views[::step]), range(settings.frames))
    return cells.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)


def _cells(settings: WalkerSettings, moments: Sequence[int]) -> Tensor:
    """Return the cells [subjects and takes, views, moments, CELL_HEIGHT, CELL_WIDTH]."""
    cells = []
    for subject in settings.subject_numbers:
        takes = Takes.of([subject], settings.takes)
        frames = render_views(settings, takes, pose_figures(settings, takes), settings.views).frames()
        cells += [_cell(sils[moment]) for sils in frames.split(settings.frames) for moment in moments]
    return torch.stack(cells).unflatten(0, (-1, len(settings.views), len(moments)))


def write_animation(path: Path | str, pictures: Tensor) -> None:
    """Write a GIF file that plays the pictures in real time and repeats forever."""
    write_gif(path, map(Image.fromarray, pictures.numpy()), 1000 / FPS)


def _cell(sil: Tensor) -> Tensor:
    """Crop a window around the person, and scale the window to a cell."""
    rows = sil.amax(1).nonzero()[:, 0]
    if len(rows) == 0:
        return torch.zeros(CELL_HEIGHT, CELL_WIDTH, dtype=torch.uint8)
    # The window is as high as the person. Half of the person's area is on each side of the middle of the window.
    height = max(int(rows[-1] - rows[0]) + 5, 60)
    width = height * CELL_WIDTH // CELL_HEIGHT
    cumulative = sil.sum(0, dtype=torch.float32).cumsum(0)
    centre = int((2 * cumulative <= cumulative[-1]).sum())
    top, left = int(rows[0]) - 2, centre - width // 2
    padded = F.pad(sil[None, None].float(), (IMAGE_WIDTH, IMAGE_WIDTH, IMAGE_HEIGHT, IMAGE_HEIGHT))
    window = padded[..., top + IMAGE_HEIGHT :, left + IMAGE_WIDTH :][..., :height, :width]
    cell = F.interpolate(window, (CELL_HEIGHT - 4, CELL_WIDTH - 2), mode="area")[0, 0]
    return F.pad(cell, (1, 1, 2, 2)).round().to(torch.uint8)
