"""Measure pretreatment, compare it with an implementation like the original's, and measure opening its store.

    python test/bench/pretreat.py --input_path=CASIA-A --worker_num 1 2
    python test/bench/pretreat.py --subjects=3 --frames=80
    python test/bench/pretreat.py --subjects=124 --frames=30 --worker_num 2 --repeats 1    a store of many sequences

The baseline works like the original: a process pool over sequences, cv2.imread in color, one channel, numpy sums, a
loop over the columns for the x-center, and cv2.imwrite to the final path. The measured times include the start of the
processes. The two implementations take turns, and the best repeat counts. Each repeat writes to a new folder, and all
folders are deleted at the end, because ext4 creates files ten times slower for a minute after files were deleted. Then
the pixels of both outputs are compared, because the files can differ in their PNG filters. Without --input_path, the
tree has two takes of synthetic walkers from eleven views.

Three times are measured for the store, and the figures are medians: listing the aligned tree and reading all its
frames; opening the store, which checks whether the tree has changed; and opening the store and reading all frames into
memory. The last line is JSON.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from measuring import median_seconds, parser_of, report

from model.common.cores import core_count
from model.data.raw.pretreatment import pretreat
from model.data.raw.tree import scan_tree
from model.data.source import read_sequence
from model.data.store import open_data
from model.synthetic.settings import WalkerSettings
from model.synthetic.tree_writer import write_tree


def plain_align(image: np.ndarray) -> np.ndarray | None:
    if image.sum() <= 10000:
        return None
    rows = image.sum(axis=1)
    filled = [row for row in range(len(rows)) if rows[row] != 0]
    image = image[filled[0] : filled[-1] + 1]
    image = cv2.resize(image, (int(64 * image.shape[1] / image.shape[0]), 64), interpolation=cv2.INTER_CUBIC)
    total, running = image.sum(), image.sum(axis=0).cumsum()
    centre = -1
    for column in range(running.size):
        if running[column] > total / 2:
            centre = column
            break
    if centre < 0:
        return None
    left, right = centre - 32, centre + 32
    if left <= 0 or right >= image.shape[1]:
        zeros = np.zeros((64, 32))
        left, right, image = left + 32, right + 32, np.concatenate([zeros, image, zeros], axis=1)
    return image[:, left:right].astype(np.uint8)


def plain_sequence(folders: tuple[str, str]) -> int:
    source, target = Path(folders[0]), Path(folders[1])
    target.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in source.iterdir())
    for name in names:
        aligned = plain_align(cv2.imread(str(source / name))[:, :, 0])
        if aligned is not None:
            cv2.imwrite(str(target / name), aligned)
    return len(names)


def plain_pretreat(source: Path, target: Path, workers: int) -> float:
    """Return frames per second."""
    start = time.perf_counter()
    folders = sorted(folder for folder in source.glob("*/*/*") if folder.is_dir())
    jobs = [(str(folder), str(target / folder.relative_to(source))) for folder in folders]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        frames = sum(pool.imap_unordered(plain_sequence, jobs))
    return frames / (time.perf_counter() - start)


def compare(ours: Path, plain: Path) -> None:
    """Check that both trees have the same frames and pixels."""
    names = sorted(path.relative_to(plain) for path in plain.rglob("*.png"))
    assert names == sorted(path.relative_to(ours) for path in ours.rglob("*.png")), "the two trees have different files"
    for name in names:
        same = np.array_equal(cv2.imread(str(ours / name), -1), cv2.imread(str(plain / name), -1))
        assert same, f"{name} differs from the baseline"


def measure_store(tree: Path, scratch: Path, repeats: int) -> dict[str, float]:
    store = open_data(tree, scratch / "stores")
    works = [
        lambda: [read_sequence(sequence) for sequence in scan_tree(tree)],
        lambda: open_data(tree, scratch / "stores"),
        lambda: open_data(tree, scratch / "stores", cache=True),
    ]
    read_tree, opened, cached = median_seconds(works, repeats)
    return {
        "sequences": len(store.index), "frames": int(store.index.frames.sum()), "read_tree_s": round(read_tree, 4),
        "open_store_s": round(opened, 4), "open_store_into_memory_s": round(cached, 4),
        "ratio": round(read_tree / opened, 1), "ratio_into_memory": round(read_tree / cached, 1),
    }  # fmt: skip


def measure(source: Path, scratch: Path, workers: int, repeats: int) -> dict[str, float]:
    rates, plain_rates = [], []
    for repeat in range(repeats):
        plain_rates.append(plain_pretreat(source, scratch / f"plain-{workers}-{repeat}", workers))
        ours = scratch / f"ours-{workers}-{repeat}"
        rates.append(pretreat(source, ours, workers).frames_per_second)
    return {
        "frames_per_second": round(max(rates)),
        "plain_frames_per_second": round(max(plain_rates)),
        "ratio": round(max(rates) / max(plain_rates), 2),
        "second_run_seconds": round(pretreat(source, ours, workers).seconds, 3),
    }


def main() -> None:
    parser = parser_of(__doc__, subjects=3, frames=80, repeats=3)
    parser.add_argument("--input_path", type=Path, help="raw tree of PNG files (default: synthetic walkers)")
    parser.add_argument("--worker_num", type=int, nargs="+", default=[1, 2], help="worker counts to measure")
    parser.add_argument("--scratch", type=Path, help="working folder (default: the system's temporary folder)")
    options = parser.parse_args()
    by_workers = {}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        source = options.input_path or Path(scratch, "raw")
        if options.input_path is None:
            takes = WalkerSettings(subjects=options.subjects, frames=options.frames, takes=("nm-01", "nm-02"))
            write_tree(source, takes, core_count())
        for workers in options.worker_num:
            by_workers[workers] = figures = measure(source, Path(scratch), workers, options.repeats)
            print(f"{workers} workers: {figures}", flush=True)
        aligned = Path(scratch, f"ours-{workers}-0")
        compare(aligned, Path(scratch, f"plain-{workers}-0"))
        store = measure_store(aligned, Path(scratch), options.repeats)
    report("pretreat", input=str(options.input_path or "synthetic walkers"), workers=by_workers, store=store)


if __name__ == "__main__":
    main()
