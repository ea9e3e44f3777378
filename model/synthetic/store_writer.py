"""Write synthetic walkers directly into a packed store: render, align and pack them on one device in batches.

The frames are those that pretreatment makes of the raw tree, except for a few pixels that differ by 1.
"""

import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from model.common.errors import UsageError, UserError
from model.common.files import atomic_folder
from model.common.json_files import write_json
from model.common.messages import progress_bar
from model.common.prefetch import prefetch
from model.data.store import FRAMES
from model.data.store_index import write_index
from model.devices.device import select
from model.synthetic.alignment import align_crops
from model.synthetic.figure import Figure
from model.synthetic.settings import SETTINGS_FILE, WalkerSettings
from model.synthetic.walkers import Takes, pose_figures, render_views

RENDER_CHUNK, RENDER_CHUNK_ON_CPU = 16384, 1024  # frames per batch; a frame needs about 1 MB of temporary memory
POSE_CHUNK, POSE_CHUNK_ON_CPU = 64, 32  # batches posed in one call, which consists of thousands of small operations
CONCURRENT_BATCHES = 3  # number of batches that an accelerator renders at the same time, each in its own thread


def write_store(path: Path | str, settings: WalkerSettings, device: torch.device) -> dict:
    """Write the store, with `synthetic.json` in its folder. The folder appears only when it is complete.

    Sequences without a usable frame are left out.

    Returns:
        {"subjects", "sequences", "frames", "seconds", "frames_per_second", "output_path"}.

    Raises:
        UsageError: if `path` exists.
        UserError: if the store cannot be written, or if no frame is usable.
    """
    path = Path(path)
    if path.exists():
        raise UsageError(f"{path}: already exists; give --store a new folder")
    start = time.perf_counter()
    counts: list[int] = []  # usable frames of each sequence
    names = map(settings.folder_name, settings.subject_numbers)
    labels = list(product(names, sorted(settings.takes), settings.views))
    bar = progress_bar(total=len(labels), unit="sequences", what="walking")
    with atomic_folder(path) as part, bar, (part / FRAMES).open("wb") as file:
        for frames, usable in _batches(settings, device):  # the next batches are computed in threads
            file.write(frames)
            counts += usable
            bar.update(len(usable))
        rows = [(*label, count) for label, count in zip(labels, counts, strict=True) if count]
        if not rows:
            raise UserError(f"{path}: not written: no frame shows a usable walker; increase --frames or reduce --noise")
        file.flush()
        write_index(part, rows)
        write_json(part / SETTINGS_FILE, settings.description() | {"complete": True})
    return settings.summary(path, len(rows), sum(counts), time.perf_counter() - start)


def _batches(settings: WalkerSettings, device: torch.device) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield the usable frames of all takes in batches, uint8 [frames, 64, 44], and the number of them in each sequence.

    The order is the same as in a store that is made from the raw tree.
    """
    on_cpu = device.type == "cpu"
    chunk, per_pose = (RENDER_CHUNK_ON_CPU, POSE_CHUNK_ON_CPU) if on_cpu else (RENDER_CHUNK, POSE_CHUNK)
    size = max(1, chunk // (settings.frames * len(settings.views)))  # takes per batch
    everything = Takes.of(settings.subject_numbers, sorted(settings.takes))
    groups = [everything[start : start + size * per_pose] for start in range(0, len(everything), size * per_pose)]
    in_threads = partial(prefetch, initializer=_use_own_stream, initargs=(device,))

    def posed_batches() -> Iterator[tuple[Takes, Figure]]:
        for takes, figure in in_threads(partial(_pose, settings, device), groups, 1, 1):
            for first in range(0, len(takes), size):
                part = slice(first, first + size)
                yield takes[part], figure.of(part)

    # One batch more than threads is requested in advance, so that no thread waits while a batch is written.
    threads = 1 if on_cpu else CONCURRENT_BATCHES
    yield from in_threads(partial(_render, settings), posed_batches(), threads, CONCURRENT_BATCHES + 1)


def _use_own_stream(device: torch.device) -> None:
    """Give this thread its own stream on an accelerator, so that it works while other threads wait."""
    if device.type != "cpu":
        select(device)
        module = torch.get_device_module(device)
        module.set_stream(module.Stream(device))


def _pose(settings: WalkerSettings, device: torch.device, takes: Takes) -> tuple[Takes, Figure]:
    takes = Takes(takes.subject.to(device), takes.take.to(device))
    figure = pose_figures(settings, takes)
    if device.type != "cpu":
        torch.get_device_module(device).current_stream(device).synchronize()  # other streams use the result
    return takes, figure


def _render(settings: WalkerSettings, posed: tuple[Takes, Figure]) -> tuple[np.ndarray, list[int]]:
    frames, usable = align_crops(render_views(settings, *posed, settings.views))
    host = torch.empty(frames.shape, dtype=frames.dtype, pin_memory=frames.device.type != "cpu").copy_(frames)
    return host.numpy(), usable.view(-1, settings.frames).sum(1).tolist()
