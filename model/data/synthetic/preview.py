"""A contact sheet: subjects and conditions downwards, views across, two moments of each walk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.data.synthetic.camera import HEIGHT, WIDTH
from model.data.synthetic.png import encode_png
from model.data.synthetic.walkers import photograph, walking_figure
from model.files import whole_file

CELL_HEIGHT, CELL_WIDTH = 128, 76


def contact_sheet(
    seed: int,
    subjects: Sequence[int],
    seq_types: Sequence[str],
    views: Sequence[str],
    frames: int,
    noise: float = 1.0,
) -> Tensor:
    """A grey picture uint8 [len(subjects) * len(seq_types) * CELL_HEIGHT, len(views) * 2 * CELL_WIDTH].

    The two moments lie a quarter of a second apart about the middle: legs apart in one, together in the
    other.
    """
    lines = []
    for subject in subjects:
        for seq_type in seq_types:
            figure = walking_figure(seed, subject, seq_type, frames)
            cells = []
            for view in views:
                sils = photograph(figure, seed, subject, seq_type, view, noise)
                middle = frames // 2
                cells += [_cell(sils[max(middle - 3, 0)]), _cell(sils[min(middle + 3, frames - 1)])]
            lines.append(torch.cat(cells, 1))
    return torch.cat(lines)


def write_preview(path: Path | str, sheet: Tensor) -> None:
    with whole_file(path) as part:
        part.write_bytes(encode_png(np.ascontiguousarray(sheet.numpy())))


def _cell(sil: Tensor) -> Tensor:
    """Cut a window around the person, as high as the cell is to the frame's scale, and put it into a cell."""
    rows = sil.amax(1).nonzero()[:, 0]
    if len(rows) == 0:
        return torch.zeros(CELL_HEIGHT, CELL_WIDTH, dtype=torch.uint8)
    size = max(int(rows[-1] - rows[0]) + 5, 60)
    across = size * CELL_WIDTH // CELL_HEIGHT
    weight = sil.sum(0, dtype=torch.float32)
    centre = int((weight * torch.arange(WIDTH)).sum() / weight.sum())
    top, left = int(rows[0]) - 2, centre - across // 2
    padded = F.pad(sil[None, None].float(), (WIDTH, WIDTH, HEIGHT, HEIGHT))
    window = padded[..., top + HEIGHT : top + HEIGHT + size, left + WIDTH : left + WIDTH + across]
    cell = F.interpolate(window, (CELL_HEIGHT - 4, CELL_WIDTH - 2), mode="area")[0, 0]
    return F.pad(cell, (1, 1, 2, 2)).round().to(torch.uint8)
