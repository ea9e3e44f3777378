"""Write synthetic walkers directly into a packed store: render, align and pack them on one device in batches.

The frames are equal to those that pretreatment makes of the raw tree.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from model.common.errors import UsageError, UserError
from model.common.files import atomic_folder, os_errors_as_user_errors, remove_leftovers
from model.common.json_files import write_json
from model.common.messages import progress_bar
from model.common.prefetch import prefetch
from model.data.store import FRAMES
from model.data.store_index import write_index
from model.devices.device import select
from model.synthetic.alignment import align_crops
from model.synthetic.figure import Figure
from model.synthetic.settings import SEQ_TYPES, SETTINGS_FILE, DatasetSettings
from model.synthetic.walkers import Takes, pose_figures, render_views

RENDER_CHUNK, RENDER_CHUNK_ON_CPU = 16384, 1024  # frames per batch; a frame needs about 1 MB of temporary memory
POSE_CHUNK, POSE_CHUNK_ON_CPU = 64, 32  # batches posed together: posing is thousands of small operations per call
CONCURRENT_BATCHES = 3  # on an accelerator, each in its own thread


class _PosedTakes(NamedTuple):
    labels: list[tuple[int, str]]  # subject and seq_type of each take
    takes: Takes
    figure: Figure


class _Batch(NamedTuple):
    labels: list[tuple[int, str]]  # subject and seq_type of each take
    counts: list[list[int]]  # number of usable frames of each take and view
    frames: np.ndarray  # all usable frames, uint8 [frames, 64, 44]


def write_store(path: Path | str, settings: DatasetSettings, device: torch.device, quiet: bool = False) -> dict:
    """Write the store with `synthetic.json` in it. The folder appears only when it is complete.

    Sequences without a usable frame are left out.

    Returns:
        {"subjects", "sequences", "frames", "seconds", "frames_per_second", "output_path"}.

    Raises:
        UsageError: if `path` exists.
        UserError: if it cannot be written, or no frame is usable.
    """
    path = Path(path)
    if path.exists():
        raise UsageError(f"{path}: already exists; give --store a new folder")
    start = time.perf_counter()
    rows: list[tuple[str, str, str, int]] = []  # subject, seq_type, view, frames
    with os_errors_as_user_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name, keep_running=True)
        total = settings.subjects * len(settings.takes) * len(settings.views)
        bar = progress_bar(total=total, unit="sequences", what="walking", quiet=quiet)
        with atomic_folder(path) as part, bar, (part / FRAMES).open("wb") as file, ThreadPoolExecutor(1) as writer:
            written = None
            for batch in _batches(settings, device):
                # One batch is written while the next ones are computed.
                if written is not None:
                    written.result()
                written = writer.submit(file.write, batch.frames)
                for (subject, seq_type), counts in zip(batch.labels, batch.counts, strict=True):
                    name = settings.folder_name(subject)
                    rows += [(name, seq_type, *row) for row in zip(settings.views, counts, strict=True) if row[1]]
                bar.update(len(batch.labels) * len(settings.views))
            written.result()
            if not rows:
                raise UserError("no frame shows a usable walker; increase --frames or reduce --noise")
            file.flush()
            write_index(part, *map(list, zip(*rows, strict=True)))
            write_json(part / SETTINGS_FILE, settings.description() | {"complete": True})
    return settings.summary(path, len(rows), sum(row[3] for row in rows), time.perf_counter() - start)


def _batches(settings: DatasetSettings, device: torch.device) -> Iterator[_Batch]:
    """Yield all takes in batches, in the order of a store that is made from the tree."""
    on_cpu = device.type == "cpu"
    chunk, per_pose = (RENDER_CHUNK_ON_CPU, POSE_CHUNK_ON_CPU) if on_cpu else (RENDER_CHUNK, POSE_CHUNK)
    size = max(1, chunk // (settings.frames * len(settings.views)))  # takes per batch
    labels = [(subject, seq_type) for subject in settings.subject_numbers for seq_type in sorted(settings.takes)]
    groups = [labels[start : start + size * per_pose] for start in range(0, len(labels), size * per_pose)]

    def posed_batches() -> Iterator[_PosedTakes]:
        for all_labels, takes, figure in prefetch(
            partial(_pose, settings, device), groups, 1, 1, initializer=_use_own_stream, initargs=(device,)
        ):
            for first in range(0, len(takes), size):
                part = slice(first, first + size)
                yield _PosedTakes(all_labels[part], takes[part], figure[part])

    threads = 1 if on_cpu else CONCURRENT_BATCHES
    yield from prefetch(
        partial(_render, settings), posed_batches(), threads, CONCURRENT_BATCHES,
        initializer=_use_own_stream, initargs=(device,),
    )  # fmt: skip


def _use_own_stream(device: torch.device) -> None:
    """Give this thread its own stream on an accelerator, so that it works while other threads wait."""
    if device.type != "cpu":
        select(device)
        module = torch.get_device_module(device)
        module.set_stream(module.Stream(device))


def _pose(settings: DatasetSettings, device: torch.device, labels: list[tuple[int, str]]) -> _PosedTakes:
    subject, take = zip(*((subject, SEQ_TYPES.index(seq_type)) for subject, seq_type in labels), strict=True)
    takes = Takes(torch.tensor(subject, device=device), torch.tensor(take, device=device))
    figure = pose_figures(settings, takes)
    if device.type != "cpu":
        torch.get_device_module(device).current_stream(device).synchronize()  # other streams use the result
    return _PosedTakes(labels, takes, figure)


def _render(settings: DatasetSettings, posed: _PosedTakes) -> _Batch:
    frames, usable = align_crops(render_views(settings, posed.takes, posed.figure, settings.views))
    counts = usable.view(-1, len(settings.views), settings.frames).sum(2)
    host = torch.empty(frames.shape, dtype=frames.dtype, pin_memory=frames.device.type != "cpu").copy_(frames)
    return _Batch(posed.labels, counts.tolist(), host.numpy())
