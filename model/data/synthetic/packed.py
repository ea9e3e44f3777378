"""Synthetic walkers straight into a packed store: rendered, aligned and packed on one device, in batches.

The frames are those that pretreatment would make of the raw tree, without the tree.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from model.data.store import FRAMES, write_index
from model.data.synthetic.alignment import align_canvases
from model.data.synthetic.recipe import DESCRIPTION, Recipe
from model.data.synthetic.walkers import Takes, photograph, walking_figures
from model.errors import UsageError, UserError
from model.files import remove_leftovers, whole_folder, write_json

FRAMES_AT_ONCE = 8192  # of all sequences of a batch; what is needed meanwhile is about 0.7 MB a frame
FRAMES_AT_ONCE_ON_CPU = 1024


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name, spare_living=True)
        total = recipe.subjects * len(recipe.takes) * len(recipe.views)
        bar = tqdm(total=total, unit="sequence", desc="walking", disable=True if quiet else None)
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
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error})") from error
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
    whole = Takes.of(recipe.numbers, seq_types)
    labels = [(subject, seq_type) for subject in recipe.numbers for seq_type in seq_types]
    waiting = None
    for start in range(0, len(whole), at_once):
        part = slice(start, start + at_once)
        takes = Takes(whole.subject[part].to(device), whole.take[part].to(device))
        canvases = photograph(recipe.world, takes, walking_figures(recipe.world, takes), recipe.views)
        frames, usable = align_canvases(canvases)
        counts = usable.view(len(takes), len(recipe.views), recipe.frames).sum(2)
        made = labels[part], frames, counts
        if waiting is not None:  # the device goes on while the batch before travels and is written
            yield from _unpacked(*waiting)
        waiting = made
    yield from _unpacked(*waiting)


def _unpacked(labels, frames, counts) -> Iterator[tuple[int, str, list[int], np.ndarray]]:
    frames, counts = frames.cpu().numpy(), counts.tolist()
    place = 0
    for (subject, seq_type), of_views in zip(labels, counts, strict=True):
        yield subject, seq_type, of_views, frames[place : place + sum(of_views)]
        place += sum(of_views)
