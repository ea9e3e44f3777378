"""Synthetic walkers straight into a packed store: rendered, aligned and packed on one device, in batches.

The frames are those that pretreatment would make of the raw tree, without the tree.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from model.common.errors import UsageError, UserError
from model.common.files import atomic_folder, os_errors_as_user_errors, remove_leftovers, write_json
from model.common.messages import progress_bar
from model.data.store import FRAMES
from model.data.store_index import write_index
from model.devices.device import select
from model.synthetic.alignment import align_canvases
from model.synthetic.figure import Figure
from model.synthetic.recipe import DESCRIPTION, Recipe
from model.synthetic.walkers import SEQ_TYPES, Takes, photograph, walking_figures

FRAMES_AT_ONCE = 16384  # of all sequences of a batch; what is needed meanwhile is about 1 MB a frame
FRAMES_AT_ONCE_ON_CPU = 1024
FIGURES_AT_ONCE = 64  # batches whose figures are posed together: thousands of small operations, however many takes
FIGURES_AT_ONCE_ON_CPU = 32
BATCHES_AT_ONCE = 3  # on an accelerator, from as many threads


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
    with os_errors_as_user_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name, keep_running=True)
        total = recipe.subjects * len(recipe.takes) * len(recipe.views)
        bar = progress_bar(total=total, unit="sequences", what="walking", quiet=quiet)
        with atomic_folder(path) as part, bar, (part / FRAMES).open("wb") as file, ThreadPoolExecutor(1) as writer:
            written = None
            for batch in _batches(recipe, device):
                if written is not None:
                    written.result()
                written = writer.submit(file.write, batch.frames)  # while the next ones are made
                for (subject, seq_type), of_views in zip(batch.labels, batch.counts, strict=True):
                    for view, count in zip(recipe.views, of_views, strict=True):
                        if count:
                            subjects.append(recipe.name(subject))
                            seq_types.append(seq_type)
                            views.append(view)
                            lengths.append(count)
                bar.update(len(batch.labels) * len(recipe.views))
            written.result()
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


class _Batch(NamedTuple):
    labels: list[tuple[int, str]]  # subject and seq_type of each take
    counts: list[list[int]]  # usable frames of each take's views
    frames: np.ndarray  # all of those, uint8 [frames, 64, 44]


def _batches(recipe: Recipe, device: torch.device) -> Iterator[_Batch]:
    on_cpu = device.type == "cpu"
    most, figures = (FRAMES_AT_ONCE_ON_CPU, FIGURES_AT_ONCE_ON_CPU) if on_cpu else (FRAMES_AT_ONCE, FIGURES_AT_ONCE)
    at_once = max(1, most // (recipe.frames * len(recipe.views)))
    seq_types = sorted(recipe.takes)  # the order of a store that is made of the tree
    labels = [(subject, seq_type) for subject in recipe.numbers for seq_type in seq_types]
    groups = [labels[start : start + at_once * figures] for start in range(0, len(labels), at_once * figures)]
    waiting: deque = deque()
    with ThreadPoolExecutor(1 if on_cpu else BATCHES_AT_ONCE, initializer=_begin, initargs=(device,)) as pool:
        posing = pool.submit(_posed, recipe, groups[0], device)
        for group, following in zip(groups, [*groups[1:], None], strict=True):
            takes, figure = posing.result()
            if following is not None:
                posing = pool.submit(_posed, recipe, following, device)
            for first in range(0, len(takes), at_once):
                part = slice(first, first + at_once)
                waiting.append(pool.submit(_batch, recipe, group[part], takes.part(part), figure.take(part)))
                if len(waiting) > BATCHES_AT_ONCE:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _begin(device: torch.device) -> None:
    """Every thread has a queue of its own on an accelerator: while it waits for one batch, others are worked at."""
    if device.type != "cpu":
        select(device)
        module = torch.get_device_module(device)
        module.set_stream(module.Stream(device))


def _posed(recipe: Recipe, labels: list[tuple[int, str]], device: torch.device) -> tuple[Takes, Figure]:
    subject, take = zip(*((subject, SEQ_TYPES.index(seq_type)) for subject, seq_type in labels), strict=True)
    takes = Takes(torch.tensor(subject, device=device), torch.tensor(take, device=device))
    figure = walking_figures(recipe.world, takes)
    if device.type != "cpu":
        torch.get_device_module(device).current_stream(device).synchronize()  # other queues go on from here
    return takes, figure


def _batch(recipe: Recipe, labels: list[tuple[int, str]], takes: Takes, figure: Figure) -> _Batch:
    frames, usable = align_canvases(photograph(recipe.world, takes, figure, recipe.views))
    counts = usable.view(-1, len(recipe.views), recipe.frames).sum(2)
    host = torch.empty(frames.shape, dtype=frames.dtype, pin_memory=frames.device.type != "cpu").copy_(frames)
    return _Batch(labels, counts.tolist(), host.numpy())
