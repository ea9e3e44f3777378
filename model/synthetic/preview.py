"""Pictures to look at: a contact sheet of subjects, conditions and views, and the same people walking."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.common.files import atomic_file
from model.synthetic.camera import FPS, HEIGHT, WIDTH
from model.synthetic.png import encode_png
from model.synthetic.walkers import Takes, World, photograph, walking_figures

CELL_HEIGHT, CELL_WIDTH = 128, 76
MOST_VIEWS_MOVING = 6  # side by side in the animation


def contact_sheet(world: World, subjects: Sequence[int], seq_types: Sequence[str], views: Sequence[str]) -> Tensor:
    """A grey picture uint8 [len(subjects) * len(seq_types) * CELL_HEIGHT, len(views) * 2 * CELL_WIDTH].

    The two moments lie a quarter of a second apart about the middle: legs apart in one, together in the other.
    """
    middle = world.frames // 2
    moments = [max(middle - 3, 0), min(middle + 3, world.frames - 1)]
    return _grid(world, subjects, seq_types, views, moments)[0]


def animation(world: World, subjects: Sequence[int], seq_types: Sequence[str], views: Sequence[str]) -> Tensor:
    """The same people walking: [frames, rows, columns] uint8, a line for each subject and take, a column for each of
    at most MOST_VIEWS_MOVING views."""
    step = -(-len(views) // MOST_VIEWS_MOVING)
    return _grid(world, subjects, seq_types, views[::step], None)


def _grid(world, subjects, seq_types, views, moments: list[int] | None) -> Tensor:
    """Pictures [pictures, rows, columns]: one that holds all `moments` side by side, or one for every frame."""
    lines = []
    for subject in subjects:
        takes = Takes.of([subject], seq_types)
        frames = photograph(world, takes, walking_figures(world, takes), views).frames()
        for of_take in frames.view(len(takes), len(views), world.frames, HEIGHT, WIDTH):
            cells = []
            for sils in of_take:
                shown = [_cell(sils[moment]) for moment in moments or range(world.frames)]
                cells.append(torch.cat(shown, 1)[None] if moments else torch.stack(shown))
            lines.append(torch.cat(cells, 2))
    return torch.cat(lines, 1)


def write_preview(path: Path | str, sheet: Tensor) -> None:
    with atomic_file(path) as part:
        part.write_bytes(encode_png(np.ascontiguousarray(sheet.numpy())))


def write_animation(path: Path | str, pictures: Tensor) -> None:
    """An endless GIF at the speed of life."""
    from PIL import Image  # torchvision brings it

    images = [Image.fromarray(picture) for picture in pictures.numpy()]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=1000 // FPS, loop=0)
    with atomic_file(path) as part:
        part.write_bytes(buffer.getvalue())


def _cell(sil: Tensor) -> Tensor:
    """Cut a window around the person, as high as the cell is to the frame's scale, and put it into a cell."""
    rows = sil.amax(1).nonzero()[:, 0]
    if len(rows) == 0:
        return torch.zeros(CELL_HEIGHT, CELL_WIDTH, dtype=torch.uint8)
    size = max(int(rows[-1] - rows[0]) + 5, 60)
    across = size * CELL_WIDTH // CELL_HEIGHT
    running = sil.sum(0, dtype=torch.float32).cumsum(0)
    centre = int((2 * running <= running[-1]).sum())  # half of the person on each side, specks or not
    top, left = int(rows[0]) - 2, centre - across // 2
    padded = F.pad(sil[None, None].float(), (WIDTH, WIDTH, HEIGHT, HEIGHT))
    window = padded[..., top + HEIGHT : top + HEIGHT + size, left + WIDTH : left + WIDTH + across]
    cell = F.interpolate(window, (CELL_HEIGHT - 4, CELL_WIDTH - 2), mode="area")[0, 0]
    return F.pad(cell, (1, 1, 2, 2)).round().to(torch.uint8)
