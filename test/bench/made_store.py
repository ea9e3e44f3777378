"""Make packed stores of any size for benchmarks, by distorting a few rendered walkers.

Each subject is one of the walkers with stretched rows and columns, so subjects differ in build. Writing a store of
26 GB takes about as long as copying it.
"""

import itertools
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import measuring  # noqa: F401  makes the packages of the repository importable
import numpy as np

from model.common.cores import core_count, start_worker
from model.common.geometry import FRAME_HEIGHT, FRAME_WIDTH
from model.data.store import FRAMES
from model.data.store_index import write_index

CYCLE = 80  # frames of a rendered walk, which is repeated
TAKES = {
    "CASIA-B": [*(f"nm-{i:02d}" for i in range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02"],
    "OUMVLP": ["00", "01"],
}
VIEWS = {
    "CASIA-B": [f"{v:03d}" for v in range(0, 181, 18)],
    "OUMVLP": [f"{v:03d}" for v in (*range(0, 91, 15), *range(180, 271, 15))],
}


def make_store(
    folder: Path, dataset: str, subjects: int, frames: int, most_sequences: int | None = None
) -> dict[str, int]:
    """Write a store with all takes and views of `dataset`, with `frames` frames per sequence on average.

    Args:
        most_sequences: largest number of sequences. If there are more, random sequences are left out, because real data
            are incomplete, too.

    Returns:
        The numbers of sequences and frames.
    """
    rng = np.random.default_rng(0)
    labels = list(itertools.product(range(subjects), TAKES[dataset], VIEWS[dataset]))
    if most_sequences is not None and most_sequences < len(labels):
        labels = [labels[i] for i in np.sort(rng.choice(len(labels), most_sequences, replace=False))]
    lengths = np.maximum(rng.normal(frames, frames / 6, len(labels)).round().astype(int), 1)
    folder.mkdir(parents=True)
    shape = (int(lengths.sum()), FRAME_HEIGHT, FRAME_WIDTH)
    np.memmap(folder / FRAMES, np.uint8, "w+", shape=shape).flush()
    # A fork would break threads and devices of torch. Benchmarks make the data first, when torch has neither.
    context = get_context("fork" if sys.platform.startswith("linux") else "spawn")
    with ProcessPoolExecutor(core_count(), context, start_worker) as pool:
        walks = np.stack(list(pool.map(_render, range(min(16, subjects)))))  # [walkers, views, CYCLE, 64, 44]
        np.save(folder / "walks.npy", walks)
        bounds = np.linspace(0, len(labels), 8 * core_count() + 1).astype(int)
        jobs = [
            pool.submit(_fill, folder, shape, labels[a:b], lengths[a:b], int(lengths[:a].sum()), VIEWS[dataset])
            for a, b in itertools.pairwise(bounds)
        ]
        for job in jobs:
            job.result()
    (folder / "walks.npy").unlink()
    subject, seq_type, view = zip(*labels, strict=True)
    names = (f"{s + 1:05d}" for s in subject)
    write_index(folder, zip(names, seq_type, view, lengths, strict=True))
    return {"sequences": len(labels), "frames": shape[0]}


def _render(walker: int) -> np.ndarray:
    """Return the aligned silhouettes of one walker from six views, uint8 [6, CYCLE, 64, 44]."""
    import torch

    from model.synthetic.alignment import align_crops
    from model.synthetic.settings import WalkerSettings
    from model.synthetic.walkers import Takes, pose_figures, render_views

    torch.set_num_threads(1)
    settings, takes, views = WalkerSettings(frames=CYCLE), Takes.of([walker + 1], ["nm-01"]), []
    figure = pose_figures(settings, takes)
    for view in ("000", "036", "072", "108", "144", "180"):
        kept, _ = align_crops(render_views(settings, takes, figure, [view]))
        views.append(kept[torch.arange(CYCLE) % len(kept)].numpy())
    return np.stack(views)


def _fill(folder: Path, shape: tuple, labels: list, lengths: np.ndarray, start: int, views: list[str]) -> None:
    walks = np.load(folder / "walks.npy", mmap_mode="r")
    frames = np.memmap(folder / FRAMES, np.uint8, "r+", shape=shape)
    for (subject, take, view), length in zip(labels, lengths, strict=True):
        rows, columns = _build_of(subject)
        rng = np.random.default_rng((subject, views.index(view), sum(take.encode())))
        seen = walks[subject % len(walks), views.index(view) % walks.shape[1]]
        picture = seen[(rng.integers(CYCLE) + np.arange(length)) % CYCLE]
        frames[start : start + length] = picture[:, rows][:, :, columns]
        start += length


def _build_of(subject: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row and each column of a frame of the subject the row or the column of the walker's frame."""
    rng = np.random.default_rng(subject)
    widths = np.interp(np.arange(FRAME_HEIGHT), np.linspace(0, FRAME_HEIGHT, 6), rng.uniform(0.6, 1.4, 6))
    rows = np.cumsum(widths) / widths.sum() * (FRAME_HEIGHT - 1)
    columns = (np.arange(FRAME_WIDTH) - FRAME_WIDTH / 2) * rng.uniform(0.8, 1.25) + FRAME_WIDTH / 2
    return rows.astype(int), np.clip(columns, 0, FRAME_WIDTH - 1).astype(int)
