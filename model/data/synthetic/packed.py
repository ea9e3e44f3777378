"""Synthetic walkers straight into a packed store: rendered, aligned and packed on one device, in batches.

The frames are those that pretreatment would make of the raw tree, without the tree.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.data.store import FRAMES
from model.data.store_index import write_index
from model.data.synthetic.alignment import align_canvases
from model.data.synthetic.recipe import DESCRIPTION, Recipe
from model.data.synthetic.walkers import SEQ_TYPES, Takes, photograph, walking_figures
from model.errors import UsageError, UserError
from model.files import remove_leftovers, told, whole_folder, write_json
from model.messages import progress_bar

FRAMES_AT_ONCE = 8192  # of all sequences of a batch; what is needed meanwhile is about 1 MB a frame
FRAMES_AT_ONCE_ON_CPU = 1024
FIGURES_AT_ONCE = 32  # batches whose figures are posed together: thousands of small operations, however many takes


def write_store(path: Path | str, recipe: Recipe, device: torch.device, quiet: bool = False) -> dict:
    """Write the store, and `synthetic.json` into it; it appears complete or not at all. Returns what was done.

    Returns {"subjects", "sequences", "frames", "seconds", "frames_per_second", "output_path"}; sequences without one
    usable frame are left out. Raises UsageError when `path` is there already, UserError when it cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise UsageError(f"{path}: is there already, give --store a new folder")
    start = time.perf_counter()
    subjects, seq_types, views, lengths = [], [], [], []
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name, spare_living=True)
        total = recipe.subjects * len(recipe.takes) * len(recipe.views)
        bar = progress_bar(total=total, unit="sequences", what="walking", quiet=quiet)
        with whole_folder(path) as part, bar, (part / FRAMES).open("wb") as file:
            for subject, seq_type, counts, frames in _batches(recipe, device):
                file.write(frames)
                for view, count in zip(recipe.views, counts, strict=True):
                    if count:
                        subjects.append(recipe.name(subject))
                        seq_types.append(seq_type)
                        views.append(view)
                        lengths.append(count)
                bar.update(len(recipe.views))
            if not lengths:
                raise UserError("no frame holds a usable walker: give more --frames, or less --noise")
            file.flush()
            write_index(part, subjects, seq_types, views, lengths)
            write_json(part / DESCRIPTION, recipe.description() | {"complete": True})
    seconds = time.perf_counter() - start
    return {
        "subjects": recipe.subjects, "sequences": len(lengths), "frames": sum(lengths), "seconds": seconds,
        "frames_per_second": sum(lengths) / seconds, "output_path": str(path),
    }  # fmt: skip


def _batches(recipe: Recipe, device: torch.device) -> Iterator[tuple[int, str, list[int], np.ndarray]]:
    """Of each take: subject, seq_type, usable frames of each view, and all those frames uint8 [frames, 64, 44]."""
    most = FRAMES_AT_ONCE_ON_CPU if device.type == "cpu" else FRAMES_AT_ONCE
    at_once = max(1, most // (recipe.frames * len(recipe.views)))
    seq_types = sorted(recipe.takes)  # the order of a store that is made of the tree
    labels = [(subject, seq_type) for subject in recipe.numbers for seq_type in seq_types]
    waiting: list = []
    for start in range(0, len(labels), at_once * FIGURES_AT_ONCE):
        several = labels[start : start + at_once * FIGURES_AT_ONCE]
        subject, take = zip(*((subject, SEQ_TYPES.index(seq_type)) for subject, seq_type in several), strict=True)
        takes = Takes(torch.tensor(subject, device=device), torch.tensor(take, device=device))
        figure = walking_figures(recipe.world, takes)
        for first in range(0, len(takes), at_once):
            part = slice(first, first + at_once)
            canvases = photograph(recipe.world, takes.part(part), figure.take(part), recipe.views)
            frames, usable = align_canvases(canvases)
            counts = usable.view(-1, len(recipe.views), recipe.frames).sum(2)
            waiting.append((several[part], _to_host(frames), counts))
            if len(waiting) > 1:  # the device goes on while the batch before is written
                yield from _unpacked(*waiting.pop(0))
    yield from _unpacked(*waiting.pop())


def _to_host(frames: Tensor) -> Tensor:
    """On its way to memory that the device writes by itself; it is there when the next batch's counts are."""
    if frames.device.type == "cpu":
        return frames
    host = torch.empty(frames.shape, dtype=frames.dtype, pin_memory=True)
    return host.copy_(frames, non_blocking=True)


def _unpacked(
    labels: list[tuple[int, str]], frames: Tensor, counts: Tensor
) -> Iterator[tuple[int, str, list[int], np.ndarray]]:
    counts = counts.tolist()  # waits for the device, and so for the frames that were sent before
    place, frames = 0, frames.numpy()
    for (subject, seq_type), of_views in zip(labels, counts, strict=True):
        yield subject, seq_type, of_views, frames[place : place + sum(of_views)]
        place += sum(of_views)
